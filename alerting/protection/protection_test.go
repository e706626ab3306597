package protection

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/alerting/actuate"
	"serin.dev/serin/alerting/protection/githubtest"
	"serin.dev/serin/analysis/verdict"
)

const secret = "It's a Secret to Everybody"

func event(environment string) string { return githubtest.Event(environment, "v2.4.1") }

// house is a book with its rule, a fake GitHub, and standings by hand.
type house struct {
	*Book
	github *githubtest.Server
	kept   []byte
	full   bool // nothing can be kept
	stands map[string]verdict.Standing
	at     time.Time
	open   func(data []byte)
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{stands: map[string]verdict.Standing{}, at: time.Unix(1_764_000_000, 0)}
	h.github = githubtest.New(t, func() time.Time { return h.at })
	app, err := actuate.NewApp(actuate.Settings{Repository: githubtest.Repository, Issuer: githubtest.Issuer, URL: h.github.URL, Key: h.github.Key})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Rules: []Rule{{Tenant: "shop", Name: "gh", Secrets: []string{"one that is rotated in", secret}, Rollout: "release-{version}", Environments: map[string]int{"quarter": 0, "production": 1}, App: app}},
		Standing: func(_ context.Context, tenant, rollout string) verdict.Standing {
			if tenant != "shop" {
				t.Errorf("tenant %q", tenant)
			}
			if s, ok := h.stands[rollout]; ok {
				return s
			}
			return verdict.Standing{State: verdict.StateUnknown}
		},
		Save: func(data []byte) error {
			if h.full {
				return fmt.Errorf("no space")
			}
			h.kept = data
			return nil
		}, Do: h.github.Client(), Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return h.at }}
	h.open = func(data []byte) {
		t.Helper()
		if h.Book, err = New(o, data); err != nil {
			t.Fatal(err)
		}
	}
	h.open(nil)
	return h
}

func (h *house) post(body string, change func(*http.Request)) (int, string) {
	r := httptest.NewRequest(http.MethodPost, "/v1/github/shop/gh", strings.NewReader(body))
	r.SetPathValue("tenant", "shop")
	r.SetPathValue("name", "gh")
	githubtest.Sign(r, secret, body)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// look has the book look some time later.
func (h *house) look(t *testing.T, after time.Duration, reviews ...string) {
	t.Helper()
	h.at = h.at.Add(after)
	h.Look(t.Context())
	if got := h.github.Reviews(); fmt.Sprint(got) != fmt.Sprint(reviews) {
		t.Errorf("reviews %q, want %q", got, reviews)
	}
}

func standing(state verdict.State, stage int) verdict.Standing {
	return verdict.Standing{State: state, Verdict: &verdict.Verdict{Stage: stage, Sentence: "so it stands"}}
}

// TestSignature is GitHub's own example, and what must not pass.
func TestSignature(t *testing.T) {
	const sum = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	body := []byte("Hello, World!")
	if !signed([]string{"another", secret}, sum, body) {
		t.Error("the published signature is refused")
	}
	for _, bad := range []string{"", "sha256=", sum[:len(sum)-2], strings.Replace(sum, "sha256", "sha1", 1), strings.Replace(sum, "7571", "7572", 1), "sha256=zz"} {
		if signed([]string{secret}, bad, body) {
			t.Errorf("%q passes", bad)
		}
	}
	if signed(nil, sum, body) || signed([]string{"another"}, sum, body) {
		t.Error("another secret passes")
	}
}

func TestRequests(t *testing.T) {
	h := newHouse(t)
	for name, c := range map[string]struct {
		body   string
		change func(*http.Request)
		status int
		want   string
	}{
		"a job that waits":     {event("quarter"), nil, 202, "waits for rollout release-2.4.1"},
		"the first ping":       {`{"zen":"x"}`, func(r *http.Request) { r.Header.Set("X-GitHub-Event", "ping") }, 200, "nothing to do"},
		"no signature":         {event("quarter"), func(r *http.Request) { r.Header.Del("X-Hub-Signature-256") }, 401, "X-Hub-Signature-256"},
		"a body that is older": {event("quarter"), func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(event("production"))) }, 401, "X-Hub-Signature-256"},
		"another rule":         {event("quarter"), func(r *http.Request) { r.SetPathValue("name", "other") }, 401, "X-Hub-Signature-256"},
		"an environment":       {event("staging"), nil, 422, `environment: "staging": want one of`},
		"another repository":   {strings.Replace(event("quarter"), `"full_name":"acme/shop"`, `"full_name":"acme/other"`, 1), nil, 422, `repository.full_name: "acme/other": want acme/shop`},
		"no run":               {strings.Replace(event("quarter"), "runs/9001", "runs/x", 1), nil, 422, "deployment_callback_url: "},
		"no installation":      {strings.Replace(event("quarter"), `{"id":77}`, `{}`, 1), nil, 422, "installation.id: 0"},
		"another action":       {strings.Replace(event("quarter"), "requested", "closed", 1), nil, 422, `action: "closed": want requested`},
		"no JSON":              {"{", nil, 422, "body: "},
		"too much":             {strings.Repeat("x", maxBody+1), nil, 413, "want at most"},
	} {
		if status, text := h.post(c.body, c.change); status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if n := len(h.Waiting()); n != 1 {
		t.Errorf("%d wait", n)
	}
	h.full = true
	if status, _ := h.post(event("production"), nil); status != 503 || len(h.Waiting()) != 1 {
		t.Errorf("what cannot be kept: %d, %d wait", status, len(h.Waiting()))
	}
}

// TestHoldNeverRejects walks a job through everything that is none of a decision, an
// outage and a restart among them, and only then through one.
func TestHoldNeverRejects(t *testing.T) {
	for _, c := range []struct {
		name        string
		environment string
		decided     verdict.Standing
		review      string
	}{
		{"promoted", "quarter", standing(verdict.StatePromote, 0), "quarter approved so it stands"},
		{"left by a promote", "quarter", standing(verdict.StateHold, 1), "quarter approved so it stands"},
		{"promoted later", "production", standing(verdict.StatePromote, 1), "production approved so it stands"},
		{"rolled back", "production", standing(verdict.StateRollback, 0), "production rejected so it stands"},
		{"rolled back later", "quarter", standing(verdict.StateRollback, 1), "quarter rejected so it stands"},
	} {
		h := newHouse(t)
		if status, text := h.post(event(c.environment), nil); status != 202 {
			t.Fatalf("%d %s", status, text)
		}
		h.post(event(c.environment), nil) // GitHub sends it again
		for _, s := range []verdict.Standing{{State: verdict.StateUnknown}, {State: verdict.StateUnavailable}, standing(verdict.StateHold, 0), standing(verdict.StateExpired, 0), {}} {
			h.stands["release-2.4.1"] = s
			h.look(t, time.Hour)
		}
		if c.environment == "production" {
			h.stands["release-2.4.1"] = standing(verdict.StatePromote, 0) // of the stage before
			h.look(t, time.Hour)
		}
		h.stands["release-2.4.1"] = c.decided
		h.github.Answer(http.StatusBadGateway) // GitHub is down
		h.look(t, time.Hour)
		h.open(h.kept) // a restart
		if w := h.Waiting(); len(w) != 1 || w[0].Tries != 1 || w[0].Rollout != "release-2.4.1" || w[0].Installation != 77 {
			t.Fatalf("%s: after a restart %+v", c.name, w)
		}
		h.github.Answer(0)
		h.look(t, 10*time.Second) // it is not time yet
		h.look(t, 10*time.Second, c.review)
		h.look(t, time.Hour, c.review)
		if w := h.Waiting(); len(w) != 0 {
			t.Errorf("%s: %+v waits on", c.name, w)
		}
	}
}

// TestGivenUp: what GitHub has ended is forgotten, what it does not take is tried
// again and again, and nothing is older than GitHub keeps it.
func TestGivenUp(t *testing.T) {
	h := newHouse(t)
	h.stands["release-2.4.1"] = standing(verdict.StatePromote, 0)
	for _, status := range []int{404, 410, 422} {
		h.post(event("quarter"), nil)
		h.github.Answer(status)
		if h.look(t, time.Hour); len(h.Waiting()) != 0 {
			t.Errorf("after %d: %+v", status, h.Waiting())
		}
	}
	for _, status := range []int{401, 403, 429, 500} {
		h.post(event("quarter"), nil)
		h.github.Answer(status)
		for range 12 {
			h.look(t, time.Hour)
		}
		if w := h.Waiting(); len(w) != 1 || w[0].Tries != 12 || w[0].Next.Sub(h.at) != maxPause {
			t.Errorf("after %d: %+v", status, w)
		}
	}
	if h.look(t, maxWait); len(h.Waiting()) != 0 {
		t.Errorf("after 30 days: %+v", h.Waiting())
	}
	if _, err := New(Options{}, []byte("{")); err == nil {
		t.Error("a file that is none is read")
	}
}

func TestRolloutName(t *testing.T) {
	r := Rule{Rollout: "{version}/{ref}/{sha}"}
	for ref, want := range map[string]string{"refs/tags/v1.2": "1.2/v1.2/s", "refs/heads/main": "main/main/s", "vendor": "vendor/vendor/s", "2.0": "2.0/2.0/s", "v": "v/v/s"} {
		if got := r.rollout(ref, "s"); got != want {
			t.Errorf("%s: %s, want %s", ref, got, want)
		}
	}
}
