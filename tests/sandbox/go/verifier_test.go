// A verifier with golang-jwt and keyfunc, tried with `jwks-server sandbox` in Go's testing.
package sandbox

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

var sandbox string

func TestMain(m *testing.M) {
	program := os.Getenv("JWKS_SERVER")
	if program == "" {
		program = "jwks-server"
	}
	command := exec.Command(program, "sandbox", "--port", "0")
	out, err := command.StdoutPipe()
	if err != nil {
		panic(err)
	}
	if err := command.Start(); err != nil {
		panic(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	sandbox = strings.TrimSpace(line)
	code := m.Run()
	command.Process.Kill()
	os.Exit(code)
}

// A realm for each test, so that they can run side by side.
func realm(t *testing.T) string {
	return sandbox + "/" + strings.NewReplacer("/", "_", " ", "_").Replace(t.Name())
}

func ask(t *testing.T, url, body string) map[string]any {
	answer, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var document map[string]any
	if err := json.NewDecoder(answer.Body).Decode(&document); err != nil || answer.StatusCode != 200 {
		t.Fatal(url, answer.Status, document, err)
	}
	return document
}

func sign(t *testing.T, issuer, more string) string {
	return ask(t, issuer+"/sign", `{"claims": {"aud": "api"}`+more+`}`)["token"].(string)
}

func accepts(t *testing.T, issuer, token string) bool {
	keys, err := keyfunc.NewDefaultCtx(t.Context(), []string{issuer + "/.well-known/jwks.json"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = jwt.Parse(token, keys.Keyfunc, jwt.WithValidMethods([]string{"RS256"}), jwt.WithAudience("api"),
		jwt.WithIssuer(issuer), jwt.WithExpirationRequired())
	return err == nil
}

func TestGoodTokensAreAccepted(t *testing.T) {
	t.Parallel()
	issuer := realm(t)
	if !accepts(t, issuer, sign(t, issuer, "")) {
		t.Error("refused")
	}
}

func TestBadTokensAreRefused(t *testing.T) {
	for _, fault := range []string{"alg-none", "alg-hs256-pem", "sig-stranger", "exp-past-1h", "aud-wrong", "iss-wrong"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			issuer := realm(t)
			if accepts(t, issuer, sign(t, issuer, `, "fault": "`+fault+`"`)) {
				t.Error("accepted")
			}
		})
	}
}

func TestAKeyThatLeftInAnEmergencyIsNotAccepted(t *testing.T) {
	t.Parallel()
	issuer := realm(t)
	old := sign(t, issuer, "")
	ask(t, issuer+"/emergency", "")
	if accepts(t, issuer, old) || !accepts(t, issuer, sign(t, issuer, "")) {
		t.Error("the old key is accepted, or the new one is not")
	}
}
