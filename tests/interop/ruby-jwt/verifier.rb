# ruby-jwt from Debian's package, with a loader for the key set: the library asks it for the set,
# and once more when a kid is unknown, and leaves fetching and caching to it. This one holds the
# set for HOLD seconds (300), and asks for an unknown kid at most once in 30 seconds.

require 'json'
require 'jwt'
require 'net/http'

class Loader
  COOLDOWN = 30

  def initialize(url, hold)
    @url = URI(url)
    @hold = hold
    @fetched = -Float::INFINITY
  end

  def call(options)
    age = Process.clock_gettime(Process::CLOCK_MONOTONIC) - @fetched
    fetch if age >= @hold || (options[:kid_not_found] && age >= COOLDOWN)
    @keys
  end

  private

  def fetch
    @keys = JSON.parse(Net::HTTP.get(@url), symbolize_names: true)
    @fetched = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  rescue SystemCallError
    raise unless @keys
  end
end

rules = {
  algorithms: ['RS256'],
  jwks: Loader.new(ENV.fetch('JWKS_URL'), ENV.fetch('HOLD', '300').to_f).method(:call).to_proc,
  iss: ENV.fetch('ISSUER'), verify_iss: true,
  aud: ENV.fetch('AUDIENCE'), verify_aud: true,
  required_claims: ['exp']
}

$stdout.sync = true
puts "ready ruby-jwt #{JWT.gem_version}"
$stdin.each_line do |token|
  JWT.decode(token.chomp, nil, true, rules)
  puts 'ok'
rescue StandardError => e
  puts "no #{e.class}: #{e.message.tr("\n", ' ')}"
end
