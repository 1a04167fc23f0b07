// go-oidc, which finds the key set by discovery, as it comes.
package main

import (
	"context"
	"os"

	"github.com/coreos/go-oidc/v3/oidc"
)

func main() {
	ctx := context.Background()
	provider := must(oidc.NewProvider(ctx, os.Getenv("ISSUER")))
	verifier := provider.Verifier(&oidc.Config{ClientID: os.Getenv("AUDIENCE")})
	serve(func(token string) error {
		_, err := verifier.Verify(ctx, token)
		return err
	}, "github.com/coreos/go-oidc/v3")
}
