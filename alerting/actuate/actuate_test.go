package actuate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/alerting/webhook"
	"serin.dev/serin/analysis/verdict"
)

var now = time.Unix(1_764_000_000, 0)

func pemOf(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// asked is a request as a tool got it.
type asked struct {
	what   string // method and URI
	header http.Header
	body   string
}

// tool is a fake of one: it answers by method and path, in turn where there are
// several answers, and keeps what it was asked.
func tool(t *testing.T, answers map[string]string) (url string, got *[]asked) {
	t.Helper()
	got = &[]asked{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		what := r.Method + " " + r.URL.RequestURI()
		*got = append(*got, asked{what, r.Header, string(raw)})
		answer, ok := answers[what]
		if !ok {
			t.Errorf("asked: %s", what)
			w.WriteHeader(http.StatusTeapot)
			return
		}
		if status := 0; strings.HasPrefix(answer, "!") {
			fmt.Sscanf(answer, "!%d", &status)
			w.WriteHeader(status)
			return
		}
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

func TestTools(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const (
		deployments = "GET /repos/acme/shop/deployments?environment=prod&per_page=1&ref=v2.4.1"
		commit      = "GET /repos/acme/shop/commits/v2.4.1"
		statuses    = "GET /projects/7/repository/commits/abc/statuses?name=serin%2Fr1&per_page=100"
		edits       = "/androidpublisher/v3/applications/com.acme.shop/edits"
		versions    = "GET /v1/apps/42/appStoreVersions?filter%5BversionString%5D=2.4.1&include=appStoreVersionPhasedRelease&limit=10"
	)
	track := func(status string) string {
		return fmt.Sprintf(`{"track":"production","releases":[{"name":"2.4.1","versionCodes":["241"],"status":%q,"userFraction":0.05,"releaseNotes":[{"language":"de","text":"x"}]},{"name":"2.4.0","versionCodes":["240"],"status":"completed"}]}`, status)
	}
	phased := func(state string) string {
		return fmt.Sprintf(`{"data":[{"type":"appStoreVersions","id":"1"}],"included":[{"type":"appStoreVersionPhasedReleases","id":"7","attributes":{"phasedReleaseState":%q}}]}`, state)
	}
	play := Settings{Kind: "google_play", Package: "com.acme.shop", Issuer: "bot@acme.iam.gserviceaccount.com", Key: pemOf(t, rsaKey)}
	apple := Settings{Kind: "app_store", Package: "42", Issuer: "an-issuer", KeyID: "K1", Key: pemOf(t, ecKey)}
	for name, c := range map[string]struct {
		s        Settings
		decision verdict.Decision
		answers  map[string]string
		want     []string // what was asked, each "METHOD URI" and then parts of its body
		fails    string
	}{
		"github deployment, promote": {Settings{Kind: "github", Repository: "acme/shop", Environment: "prod", Token: "t", Ref: "v{canary}"}, verdict.Promote,
			map[string]string{deployments: `[{"id":9}]`, "POST /repos/acme/shop/deployments/9/statuses": `{}`},
			[]string{deployments, `POST /repos/acme/shop/deployments/9/statuses {"auto_inactive":false,"description":"` + strings.Repeat("a", 137) + `...","state":"success"}`}, ""},
		"github deployment, hold": {Settings{Kind: "github", Repository: "acme/shop", Environment: "prod", Token: "t", Ref: "v{canary}"}, verdict.Hold,
			map[string]string{deployments: `[{"id":9}]`, "POST /repos/acme/shop/deployments/9/statuses": `{}`}, []string{deployments, `"state":"in_progress"`}, ""},
		"github without a deployment": {Settings{Kind: "github", Repository: "acme/shop", Environment: "prod", Token: "t", Ref: "v{canary}"}, verdict.Rollback,
			map[string]string{deployments: `[]`}, []string{deployments}, "no deployment of v2.4.1"},
		"github status": {Settings{Kind: "github", Repository: "acme/shop", Token: "t", Report: "status", Ref: "v{canary}"}, verdict.Rollback,
			map[string]string{commit: `{"sha":"abc"}`, "POST /repos/acme/shop/statuses/abc": `{}`}, []string{commit, `"context":"serin/r1"`}, ""},
		"github check": {Settings{Kind: "github", Repository: "acme/shop", Token: "t", Report: "check", Ref: "v{canary}"}, verdict.Rollback,
			map[string]string{commit: `{"sha":"abc"}`, "POST /repos/acme/shop/check-runs": `{}`}, []string{commit, `"conclusion":"failure"`}, ""},
		"github says 403": {Settings{Kind: "github", Repository: "acme/shop", Token: "t", Report: "check", Ref: "v{canary}"}, verdict.Rollback,
			map[string]string{commit: `!403`}, []string{commit}, "status 403"},
		"gitlab flag": {Settings{Kind: "gitlab", Project: "acme/shop", Flag: "new checkout", Token: "t"}, verdict.Rollback,
			map[string]string{"PUT /projects/acme%2Fshop/feature_flags/new%20checkout": `{}`}, []string{`PUT /projects/acme%2Fshop/feature_flags/new%20checkout {"active":false}`}, ""},
		"gitlab flag, promote": {Settings{Kind: "gitlab", Project: "7", Flag: "f", Token: "t"}, verdict.Promote, nil, nil, ""},
		"gitlab status": {Settings{Kind: "gitlab", Project: "7", Report: "status", Token: "t"}, verdict.Hold,
			map[string]string{"GET /projects/7/repository/commits/2.4.1": `{"id":"abc"}`, statuses: `[]`, "POST /projects/7/statuses/abc": `{}`}, []string{"GET /projects", statuses, `"state":"running"`}, ""},
		"gitlab status, as it is": {Settings{Kind: "gitlab", Project: "7", Report: "status", Token: "t"}, verdict.Hold,
			map[string]string{"GET /projects/7/repository/commits/2.4.1": `{"id":"abc"}`, statuses: `[{"id":2,"status":"running"},{"id":1,"status":"success"}]`, "POST /projects/7/statuses/abc": `!400`}, []string{"GET /projects", statuses}, ""},
		"gitlab status, as it was": {Settings{Kind: "gitlab", Project: "7", Report: "status", Token: "t"}, verdict.Rollback,
			map[string]string{"GET /projects/7/repository/commits/2.4.1": `{"id":"abc"}`, statuses: `[{"id":1,"status":"failed"},{"id":2,"status":"running"}]`, "POST /projects/7/statuses/abc": `{}`}, []string{"GET /projects", statuses, `"state":"failed"`}, ""},
		"launchdarkly": {Settings{Kind: "launchdarkly", Project: "p", Environment: "prod", Flag: "f", Token: "t"}, verdict.Rollback,
			map[string]string{"PATCH /api/v2/flags/p/f": `{}`}, []string{`"environmentKey":"prod","instructions":[{"kind":"turnFlagOff"}]`}, ""},
		"google play": {play, verdict.Rollback, map[string]string{"POST /token": `{"access_token":"at"}`, "POST " + edits: `{"id":"e1"}`, "GET " + edits + "/e1/tracks/production": track("inProgress"),
			"PUT " + edits + "/e1/tracks/production": `{}`, "POST " + edits + "/e1:commit": `{}`},
			[]string{"POST /token", "POST " + edits + " {}", "GET " + edits, `"status":"halted","userFraction":0.05,"versionCodes":["241"]},{"name":"2.4.0","status":"completed","versionCodes":["240"]}`, ":commit"}, ""},
		"google play, halted already": {play, verdict.Rollback, map[string]string{"POST /token": `{"access_token":"at"}`, "POST " + edits: `{"id":"e1"}`,
			"GET " + edits + "/e1/tracks/production": track("halted"), "DELETE " + edits + "/e1": ``}, []string{"POST /token", "POST", "GET", "DELETE"}, ""},
		"google play, completed": {play, verdict.Rollback, map[string]string{"POST /token": `{"access_token":"at"}`, "POST " + edits: `{"id":"e1"}`,
			"GET " + edits + "/e1/tracks/production": track("completed"), "DELETE " + edits + "/e1": ``}, []string{"POST /token", "POST", "GET", "DELETE"}, "only one in progress"},
		"google play, hold": {play, verdict.Hold, nil, nil, ""},
		"app store": {apple, verdict.Rollback, map[string]string{versions: phased("ACTIVE"), "PATCH /v1/appStoreVersionPhasedReleases/7": `{}`},
			[]string{versions, `{"data":{"attributes":{"phasedReleaseState":"PAUSED"},"id":"7","type":"appStoreVersionPhasedReleases"}}`}, ""},
		"app store, paused already": {apple, verdict.Rollback, map[string]string{versions: phased("PAUSED")}, []string{versions}, ""},
		"app store, of several platforms": {apple, verdict.Rollback, map[string]string{versions: `{"included":[{"type":"appStoreVersionPhasedReleases","id":"6","attributes":{"phasedReleaseState":"PAUSED"}},` +
			`{"type":"appStoreVersionPhasedReleases","id":"7","attributes":{"phasedReleaseState":"ACTIVE"}},{"type":"appStoreVersionPhasedReleases","id":"8","attributes":{"phasedReleaseState":"INACTIVE"}}]}`,
			"PATCH /v1/appStoreVersionPhasedReleases/7": `{}`}, []string{versions, "PATCH /v1/appStoreVersionPhasedReleases/7"}, ""},
		"app store, at its end": {apple, verdict.Rollback, map[string]string{versions: phased("COMPLETE")}, []string{versions}, "COMPLETE: only an active one can be paused"},
		"app store, no phases":  {apple, verdict.Rollback, map[string]string{versions: `{"data":[],"included":[]}`}, []string{versions}, "no phased release"},
	} {
		t.Run(name, func(t *testing.T) {
			url, got := tool(t, c.answers)
			c.s.URL, c.s.TokenURL = url, url+"/token"
			tl, err := New(c.s, http.DefaultClient, func() time.Time { return now })
			if err != nil {
				t.Fatal(err)
			}
			v := &verdict.Verdict{Rollout: "r1", App: "shop", Canary: "2.4.1", Number: 3, Decision: c.decision, Sentence: strings.Repeat("a", 300)}
			answer, err := tl.Tell(t.Context(), webhook.Message{Verdict: v})
			if told := answer.Status/100 == 2; told != (err == nil) {
				t.Errorf("status %d with %v", answer.Status, err)
			}
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("%v, want %q", err, c.fails)
			}
			if len(*got) != len(c.want) {
				t.Fatalf("asked %+v, want %v", *got, c.want)
			}
			for i, want := range c.want {
				if text := (*got)[i].what + " " + (*got)[i].body; !strings.Contains(text, want) {
					t.Errorf("%s; want %s", text, want)
				}
			}
			switch c.s.Kind {
			case "launchdarkly":
				if h := (*got)[0].header; h.Get("Content-Type") != "application/json; domain-model=launchdarkly.semanticpatch" || h.Get("Authorization") != "t" {
					t.Errorf("%v", h)
				}
			case "app_store":
				verifyJWT(t, strings.TrimPrefix((*got)[0].header.Get("Authorization"), "Bearer "), func(sum, sig []byte) bool {
					return ecdsa.Verify(&ecKey.PublicKey, sum, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
				}, "an-issuer", 20*time.Minute)
			}
			if c.s.Kind == "google_play" && len(*got) > 0 {
				_, assertion, _ := strings.Cut((*got)[0].body, "assertion=")
				assertion, _, _ = strings.Cut(assertion, "&")
				verifyJWT(t, assertion, func(sum, sig []byte) bool {
					return rsa.VerifyPKCS1v15(&rsaKey.PublicKey, crypto.SHA256, sum, sig) == nil
				}, play.Issuer, time.Hour)
			}
		})
	}
}

// TestRateLimits has tools that say when they are to be asked again.
func TestRateLimits(t *testing.T) {
	soon := fmt.Sprint(now.Add(90 * time.Second).Unix())
	for name, c := range map[string]struct {
		kind   string
		status int
		header map[string]string
		after  time.Duration
	}{
		"a secondary limit of GitHub": {"github", 403, map[string]string{"Retry-After": "60"}, time.Minute},
		"a primary limit of GitHub":   {"github", 403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": soon}, 90 * time.Second},
		"and one that is far away":    {"github", 429, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9999999999"}, 5 * time.Minute},
		"no limit of GitHub":          {"github", 403, map[string]string{"X-RateLimit-Remaining": "4999", "X-RateLimit-Reset": soon}, 0},
		"GitLab":                      {"gitlab", 429, map[string]string{"Retry-After": "30"}, 30 * time.Second},
		"LaunchDarkly":                {"launchdarkly", 429, map[string]string{"Retry-After": "7"}, 7 * time.Second},
		"no wait":                     {"launchdarkly", 500, nil, 0},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for k, v := range c.header {
				w.Header().Set(k, v)
			}
			w.WriteHeader(c.status)
		}))
		settings := Settings{Kind: c.kind, URL: s.URL, Token: "t", Repository: "acme/shop"}
		switch c.kind {
		case "gitlab":
			settings = Settings{Kind: c.kind, URL: s.URL, Token: "t", Project: "p", Flag: "f"}
		case "launchdarkly":
			settings = Settings{Kind: c.kind, URL: s.URL, Token: "t", Project: "p", Environment: "e", Flag: "f"}
		}
		tl, err := New(settings, http.DefaultClient, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		answer, err := tl.Tell(t.Context(), webhook.Message{Verdict: &verdict.Verdict{Rollout: "r1", Decision: verdict.Rollback}})
		if err == nil || answer.Status != c.status || answer.After != c.after {
			t.Errorf("%s: status %d, after %v, %v; want %d after %v", name, answer.Status, answer.After, err, c.status, c.after)
		}
		s.Close()
	}
}

func verifyJWT(t *testing.T, token string, verify func(sum, sig []byte) bool, issuer string, longest time.Duration) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no token", token)
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || !verify(sum[:], sig) {
		t.Errorf("the signature does not verify: %v", err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Iss      string
		Iat, Exp int64
	}
	if err != nil || json.Unmarshal(raw, &claims) != nil || claims.Iss != issuer || claims.Exp-claims.Iat > int64(longest/time.Second) || claims.Iat != now.Unix() {
		t.Errorf("claims %s", raw)
	}
}

func TestSettings(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		s    Settings
		want []string
	}{
		"kind":                             {Settings{Kind: "jenkins"}, []string{`kind: "jenkins": want one of [app_store github gitlab google_play launchdarkly]`}},
		"all told":                         {Settings{Kind: "github", Repository: "shop", Report: "issue", URL: "ftp://x"}, []string{"token: absent", "repository: \"shop\"", `report: "issue"`, "url:"}},
		"flag":                             {Settings{Kind: "gitlab", Project: "1", Token: "t"}, []string{"flag: absent"}},
		"key":                              {Settings{Kind: "app_store", Package: "1", Issuer: "i", KeyID: "k", Key: []byte("x")}, []string{"key: want PEM"}},
		"a flag that nobody turns off":     {Settings{Kind: "gitlab", Project: "1", Report: "status", Flag: "f", Token: "t"}, []string{"flag: given for gitlab with report status: want it for gitlab with report flag, launchdarkly"}},
		"an environment that is not asked": {Settings{Kind: "github", Repository: "a/b", Report: "check", Environment: "e", Token: "t"}, []string{"environment: given for github with report check: want it for github with report deployment, launchdarkly"}},
		"another's": {Settings{Kind: "google_play", Package: "p", Issuer: "i", Key: pemOf(t, rsaKey), Repository: "a/b", Ref: "v{canary}", KeyID: "k", Token: "geheim"},
			[]string{"repository: given for google_play: want it for github", "ref: given for google_play", "key_id: given for google_play: want it for app_store", "token: given for google_play: want it for github, gitlab, launchdarkly"}},
		"no report": {Settings{Kind: "launchdarkly", Project: "p", Environment: "e", Flag: "f", Token: "t", Report: "status"}, []string{"report: given for launchdarkly: want it for github, gitlab"}},
	} {
		_, err := New(c.s, http.DefaultClient, nil)
		if err == nil {
			t.Errorf("%s: no fault", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v: no %q", name, err, want)
			}
		}
		if c.s.Token != "" && slices.Contains(strings.Fields(err.Error()), c.s.Token) {
			t.Errorf("%s: %v holds the token", name, err)
		}
	}
	if _, err := New(Settings{Kind: "github", Token: "t"}, http.DefaultClient, nil); err == nil || err.Error() != "repository: absent: github needs it" {
		t.Errorf("without a repository: %v", err)
	}
	var status *StatusError
	if err := error(&StatusError{Status: 500, What: "GET /"}); !errors.As(err, &status) || err.Error() != "GET /: status 500" {
		t.Error(err)
	}
}
