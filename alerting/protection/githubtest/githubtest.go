// Package githubtest is GitHub as a deployment protection rule meets it, for tests.
package githubtest

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What the App and the job of its events are called.
const (
	Repository   = "acme/shop"
	Issuer       = "12345" // the App's id
	installation = "77"
	run          = "9001"
)

// Server is a fake of GitHub's API that checks what the reference asks for: paths,
// headers, the App's token and its times, and the body by its schema
// (https://docs.github.com/en/rest/actions/workflow-runs#review-custom-deployment-protection-rules-for-a-workflow-run).
type Server struct {
	*httptest.Server
	Key []byte // the App's private key, in PEM

	t       testing.TB
	public  *rsa.PublicKey
	now     func() time.Time
	mu      sync.Mutex
	status  int // of reviews; 0: 204
	reviews []string
}

// New starts a server that ends with the test. now is what its clock says.
func New(t testing.TB, now func() time.Time) *Server {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	// GitHub gives Apps their keys in PKCS #1.
	g := &Server{Key: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), t: t, public: &key.PublicKey, now: now}
	g.Server = httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(g.Close)
	return g
}

// Answer has reviews answered with a status; 0: as GitHub does.
func (g *Server) Answer(status int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status = status
}

// Reviews returns the reviews that were taken, as "ENVIRONMENT STATE COMMENT".
func (g *Server) Reviews() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.reviews)
}

// Event is the body of the event with which a job in an environment, of a deployment
// of a tag, asks for a review.
func Event(environment, tag string) string {
	return `{"action":"requested","environment":"` + environment + `","event":"push","ref":"refs/tags/` + tag + `","sha":"abc123",
 "deployment_callback_url":"https://api.github.com/repos/` + Repository + `/actions/runs/` + run + `/deployment_protection_rule",
 "deployment":{"id":1,"ref":"` + tag + `","sha":"abc123"},"pull_requests":[],"repository":{"id":3,"full_name":"` + Repository + `"},"installation":{"id":` + installation + `},"sender":{"login":"x"}}`
}

// Sign makes a request one of GitHub's webhook with a secret.
func Sign(r *http.Request, secret, body string) {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body)) // a hash.Hash never fails
	r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	r.Header.Set("X-GitHub-Event", "deployment_protection_rule")
}

func (g *Server) serve(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if r.Method != http.MethodPost || r.Header.Get("Accept") != "application/vnd.github+json" || r.Header.Get("X-GitHub-Api-Version") == "" || r.Header.Get("User-Agent") == "" {
		g.t.Errorf("%s %s: %v", r.Method, r.URL, r.Header)
	}
	switch r.URL.Path {
	case "/app/installations/" + installation + "/access_tokens":
		if err := g.checkJWT(bearer); err != nil {
			g.t.Error(err)
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"token":"ghs_installation","expires_at":"2030-01-01T00:00:00Z"}`)
	case "/repos/" + Repository + "/actions/runs/" + run + "/deployment_protection_rule":
		raw, err := io.ReadAll(r.Body)
		if err != nil || bearer != "ghs_installation" {
			g.t.Errorf("token %q, %v", bearer, err)
		}
		var body struct {
			Environment *string `json:"environment_name"`
			State       *string `json:"state"`
			Comment     *string `json:"comment"`
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&body); err != nil || body.Environment == nil || body.State == nil || body.Comment == nil || *body.State != "approved" && *body.State != "rejected" {
			g.t.Errorf("body: %s, %v", raw, err)
			return
		}
		if g.status != 0 {
			w.WriteHeader(g.status)
			return
		}
		g.reviews = append(g.reviews, *body.Environment+" "+*body.State+" "+*body.Comment)
		w.WriteHeader(http.StatusNoContent)
	default:
		g.t.Errorf("asked for %s", r.URL)
	}
}

func (g *Server) checkJWT(token string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return fmt.Errorf("token %q", token)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(g.public, crypto.SHA256, sum[:], signature); err != nil {
		return err
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err
	}
	var claims struct {
		Iat, Exp int64
		Iss      string
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return err
	}
	if now := g.now().Unix(); claims.Iss != Issuer || claims.Iat > now || claims.Exp <= now || claims.Exp > now+600 {
		return fmt.Errorf("claims %+v at %d", claims, now)
	}
	return nil
}
