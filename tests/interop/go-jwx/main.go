// jwx with its own cache for key sets, as it comes, or fetching anew at least
// every HOLD.
package main

import (
	"context"
	"os"
	"time"

	"github.com/lestrrat-go/httprc/v3"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

func main() {
	ctx, url := context.Background(), os.Getenv("JWKS_URL")
	cache := must(jwk.NewCache(ctx, httprc.NewClient()))
	var options []jwk.RegisterOption
	if hold := os.Getenv("HOLD"); hold != "" {
		interval := must(time.ParseDuration(hold + "s"))
		options = append(options, jwk.WithMinInterval(time.Second), jwk.WithMaxInterval(interval))
	}
	must(0, cache.Register(ctx, url, options...))
	keys := must(cache.CachedSet(url))
	serve(func(token string) error {
		_, err := jwt.ParseString(token,
			jwt.WithKeySet(keys),
			jwt.WithIssuer(os.Getenv("ISSUER")),
			jwt.WithAudience(os.Getenv("AUDIENCE")),
		)
		return err
	}, "github.com/lestrrat-go/jwx/v3", "github.com/lestrrat-go/httprc/v3")
}
