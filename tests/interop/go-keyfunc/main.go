// golang-jwt with keyfunc to find the key, as it comes, or fetching the key
// set anew every HOLD.
package main

import (
	"context"
	"os"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

func main() {
	keys := must(keySet(context.Background(), []string{os.Getenv("JWKS_URL")}))
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{"RS256"}),
		jwt.WithIssuer(os.Getenv("ISSUER")),
		jwt.WithAudience(os.Getenv("AUDIENCE")),
		jwt.WithExpirationRequired(),
	)
	serve(func(token string) error {
		_, err := parser.Parse(token, keys.Keyfunc)
		return err
	}, "github.com/MicahParks/keyfunc/v3", "github.com/golang-jwt/jwt/v5")
}

func keySet(ctx context.Context, urls []string) (keyfunc.Keyfunc, error) {
	hold := os.Getenv("HOLD")
	if hold == "" {
		return keyfunc.NewDefaultCtx(ctx, urls)
	}
	interval := must(time.ParseDuration(hold + "s"))
	return keyfunc.NewDefaultOverrideCtx(ctx, urls, keyfunc.Override{RefreshInterval: interval})
}
