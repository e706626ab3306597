package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"serin.dev/serin/alerting/webhook"
	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/verdict"
)

// burning is an evaluator of one objective, which burns while it is told to.
type burning struct{ on atomic.Bool }

func (b *burning) EvaluateSLOs(_ context.Context, fn func(*verdict.SLOState)) error {
	rate := 0.0
	if b.on.Load() {
		rate = 20
	}
	now := time.Now()
	fn(&verdict.SLOState{Version: 1, Tenant: "own", SLO: "checkout", Group: "2.4.1", Service: "web", App: "shop-web", At: now, DataThrough: now, Completeness: 1, Target: 0.99, Sentence: "Look at 2.4.1.",
		Alerts: []verdict.Burn{{Name: "page-1h", Severity: "page", Form: "burn", Threshold: 14.4, Long: "1h0m0s", Short: "5m0s", LongRate: verdict.Bound(rate), ShortRate: verdict.Bound(rate),
			Bad: 20, Total: 100, Burning: rate >= 14.4, WhenBreaching: true, WhenResolved: true}}})
	return nil
}

func (b *burning) Conditions() ([]verdict.Condition, bool) { return nil, true }

// receivers take what is told, by path.
type receivers struct {
	mu  sync.Mutex
	got []string
}

func (r *receivers) events(path string) (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.got {
		if p, event, _ := strings.Cut(g, " "); p == path {
			all = append(all, event)
		}
	}
	return all
}

func startReceivers(t *testing.T) (*receivers, string) {
	t.Helper()
	secret, err := webhook.ParseSecret(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	r := &receivers{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		raw, _ := io.ReadAll(req.Body)
		event := ""
		switch req.URL.Path {
		case "/hook":
			if err := webhook.Verify(secret, req.Header, raw); err != nil {
				t.Error(err)
			}
			var m struct {
				Type string
				Data struct{ Items []struct{ Event string } }
			}
			if err := json.Unmarshal(raw, &m); err != nil || m.Type != "alert" || len(m.Data.Items) != 1 {
				t.Errorf("%s: %v", raw, err)
				return
			}
			event = m.Data.Items[0].Event
		case "/pager":
			var m struct {
				Action string `json:"event_action"`
			}
			if err := json.Unmarshal(raw, &m); err != nil {
				t.Error(err)
			}
			event = m.Action
			w.WriteHeader(http.StatusAccepted)
		case "/chat":
			event = "fired"
			if strings.Contains(string(raw), "RESOLVED") {
				event = "resolved"
			}
		case "/api/v2/alerts":
			var as []struct {
				Labels map[string]string
				EndsAt time.Time
			}
			if err := json.Unmarshal(raw, &as); err != nil {
				t.Error(err)
			}
			var names []string
			for _, a := range as {
				state := "open"
				if a.EndsAt.Before(time.Now()) {
					state = "ended"
				}
				names = append(names, a.Labels["alertname"]+"="+state)
			}
			slices.Sort(names)
			event = strings.Join(names, ",")
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got = append(r.got, req.URL.Path+" "+event)
	}))
	t.Cleanup(server.Close)
	return r, server.URL
}

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// alertConfigFor has a target of each kind that speaks HTTP.
func alertConfigFor(dir, url string) config {
	c := testConfig(dir)
	c.WebhookAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c.Alerting = alertingConfig{Every: time.Second, Evaluations: 1, KeepFiringFor: time.Nanosecond, ReopenAfter: time.Nanosecond, GroupInterval: time.Nanosecond}
	c.Tenants[0].Alerts = []alertConfig{
		{Name: "am", Kind: "alertmanager", URL: url}, {Name: "chat", Kind: "slack", URL: url + "/chat"},
		{Name: "pager", Kind: "pagerduty", URL: url + "/pager", RoutingKey: strings.Repeat("k", 32)}, {Name: "hook", Kind: "webhook", URL: url + "/hook", Secret: testSecret}}
	return c
}

// startEvaluating runs a server with an evaluator until stop is called.
func startEvaluating(t *testing.T, c config, ev evaluator) (s *server, stop func()) {
	t.Helper()
	s, err := newServer(t.Context(), c, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	s.evaluator = func(*analysis.Engine) evaluator { return ev }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 400 {
		if holds() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("in 10 s there was no %s", what)
}

// TestAlertsEndToEnd takes one incident through a server with a target of each
// kind, over a restart: it opens once and ends once for everybody.
func TestAlertsEndToEnd(t *testing.T) {
	got, url := startReceivers(t)
	c := alertConfigFor(t.TempDir(), url)
	ev := &burning{}
	ev.on.Store(true)
	s, stop := startEvaluating(t, c, ev)
	eventually(t, "opening everywhere", func() bool {
		return slices.Contains(got.events("/chat"), "fired") && slices.Contains(got.events("/pager"), "trigger") && slices.Contains(got.events("/hook"), "opened") &&
			slices.Contains(got.events("/api/v2/alerts"), "SerinErrorBudgetBurn=open,SerinWatchdog=open")
	})
	t.Setenv("SERIN_SERVER", s.url())
	t.Setenv("SERIN_TOKEN", ownViewer)
	status, out, errs := runCommand(t, "alerts")
	if status != 0 || !strings.Contains(out, "firing") || !strings.Contains(out, "Look at 2.4.1.") {
		t.Errorf("serin alerts: %d %s %s", status, out, errs)
	}
	t.Setenv("SERIN_TOKEN", foreignToken)
	if _, out, _ := runCommand(t, "alerts"); strings.Contains(out, "checkout") {
		t.Errorf("another tenant sees %s", out)
	}
	stop()
	// The restart tells nobody again, and the end reaches all.
	_, stop = startEvaluating(t, c, ev)
	time.Sleep(2500 * time.Millisecond)
	ev.on.Store(false)
	eventually(t, "end everywhere", func() bool {
		return slices.Contains(got.events("/chat"), "resolved") && slices.Contains(got.events("/pager"), "resolve") && slices.Contains(got.events("/hook"), "resolved") &&
			slices.Contains(got.events("/api/v2/alerts"), "SerinErrorBudgetBurn=ended,SerinWatchdog=open")
	})
	time.Sleep(1500 * time.Millisecond)
	stop()
	for path, want := range map[string][]string{"/chat": {"fired", "resolved"}, "/pager": {"trigger", "resolve"}, "/hook": {"opened", "resolved"}} {
		if events := got.events(path); !slices.Equal(events, want) {
			t.Errorf("%s was told %q, want %q", path, events, want)
		}
	}
}

func TestSilenceCommand(t *testing.T) {
	got, url := startReceivers(t)
	ev := &burning{}
	c := alertConfigFor(t.TempDir(), url)
	s, stop := startEvaluating(t, c, ev)
	t.Setenv("SERIN_SERVER", s.url())
	t.Setenv("SERIN_TOKEN", ownViewer)
	add := []string{"silence", "add", "--for", "2h", "--why", "a load test", "slo=checkout"}
	eventually(t, "answer", func() bool { status, _, _ := runCommand(t, "silence", "list"); return status == 0 })
	if status, _, errs := runCommand(t, add...); status != 1 || !strings.Contains(errs, "releaser") {
		t.Errorf("a viewer: %d %s", status, errs)
	}
	t.Setenv("SERIN_TOKEN", ownToken)
	for want, args := range map[string][]string{
		"one of slo":        {"silence", "add", "--for", "2h", "--why", "x", "shop=1"},
		"everything would":  {"silence", "add", "--for", "2h", "--why", "x", "slo!=checkout"},
		"want at most 744h": {"silence", "add", "--for", "1000h", "--why", "x", "slo=checkout"},
	} {
		if status, _, errs := runCommand(t, args...); status != 1 || !strings.Contains(errs, want) {
			t.Errorf("%v: %d %s, want %q", args, status, errs, want)
		}
	}
	status, out, errs := runCommand(t, add...)
	if status != 0 {
		t.Fatalf("%d %s", status, errs)
	}
	id, _, _ := strings.Cut(out, " ")
	ev.on.Store(true)
	eventually(t, "silenced incident", func() bool { _, out, _ := runCommand(t, "alerts"); return strings.Contains(out, id) })
	time.Sleep(1200 * time.Millisecond)
	if events := append(got.events("/chat"), got.events("/pager")...); len(events) != 0 {
		t.Errorf("in the silence was told %q", events)
	}
	stop() // what was acknowledged is there after a restart
	s, _ = startEvaluating(t, c, ev)
	t.Setenv("SERIN_SERVER", s.url())
	eventually(t, "silence after a restart", func() bool {
		_, out, _ := runCommand(t, "silence", "list")
		return strings.Contains(out, id) && strings.Contains(out, "a load test") && strings.Contains(out, "ci")
	})
	if status, out, errs := runCommand(t, "silence", "end", id); status != 0 {
		t.Errorf("%d %s %s", status, out, errs)
	}
	eventually(t, "telling after the silence", func() bool { return slices.Contains(got.events("/pager"), "trigger") })
	if status, _, _ := runCommand(t, "silence", "end", id); status != 1 {
		t.Errorf("it ended twice: %d", status)
	}
}

func TestDamagedAlertsFile(t *testing.T) {
	c := testConfig(t.TempDir())
	if err := os.WriteFile(c.path("alerts.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openAlerts(&c, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.path("alerts.json.damaged")); err != nil {
		t.Error(err)
	}
}

func TestAlertConfigRefusals(t *testing.T) {
	for want, a := range map[string]alertConfig{
		`kind: "sms"`:               {Name: "x", Kind: "sms"},
		`name: ""`:                  {Kind: "slack", URL: "https://hooks.example/x"},
		"url: want that":            {Name: "x", Kind: "slack"},
		"routing_key: 3":            {Name: "x", Kind: "pagerduty", RoutingKey: "abc"},
		"secret: absent":            {Name: "x", Kind: "webhook", URL: "https://x.example"},
		"want whsec_":               {Name: "x", Kind: "webhook", URL: "https://x.example", Secret: "geheim"},
		`smtp: ""`:                  {Name: "x", Kind: "email"},
		`severity: "urgent"`:        {Name: "x", Kind: "slack", Severity: "urgent"},
		"hello: \"a b\"":            {Name: "x", Kind: "email", SMTP: "mail.example:25", Security: "none", Hello: "a b", From: "a@x.example", To: []string{"a@x.example"}},
		"hello: given for the kind": {Name: "x", Kind: "slack", Hello: "x.example"},
		`to: given for the kind`:    {Name: "x", Kind: "slack", To: []string{"a@x.example"}},
		"url: given for the kind":   {Name: "x", Kind: "email", URL: "https://x.example"},
	} {
		c := testConfig(t.TempDir())
		c.Tenants[0].Alerts = []alertConfig{a}
		if _, err := c.directory(); err == nil || !strings.Contains(err.Error(), "tenants[0].alerts[0]."+want) && !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%+v: %v, want %q", a, err, want)
		}
	}
	for want, a := range map[string]alertingConfig{"alerting.every": {Every: time.Hour}, "alerting.clear": {Clear: 2}, "alerting.reopen_after": {ReopenAfter: -1},
		// An Alertmanager refuses all alerts whose link is none.
		`alerting.external_url: "serin.example:8711": want`: {ExternalURL: "serin.example:8711"}, `alerting.external_url: "https://serin.example/?x=1": want`: {ExternalURL: "https://serin.example/?x=1"}} {
		c := testConfig(t.TempDir())
		c.Alerting = a
		if _, err := c.directory(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", a, err, want)
		}
	}
}

// TestWatchdog has a webhook hear that objectives are evaluated, and hear nothing of
// it while they are not.
func TestWatchdog(t *testing.T) {
	secret, err := webhook.ParseSecret(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	var beats atomic.Int64
	ids := sync.Map{}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var m struct {
			Type string
			Data struct {
				Target string
				Every  float64 `json:"every_seconds"`
			}
		}
		if err := webhook.Verify(secret, r.Header, raw); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal(raw, &m); err != nil || m.Type != "watchdog" || m.Data.Target != "dead" || m.Data.Every != 10 {
			t.Errorf("%s: %v", raw, err)
		}
		if _, again := ids.LoadOrStore(r.Header.Get("webhook-id"), true); again {
			t.Errorf("told twice: %s", raw)
		}
		beats.Add(1)
	}))
	defer hook.Close()
	c := testConfig(t.TempDir())
	c.WebhookAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c.Alerting.Every = time.Second
	c.Tenants[0].Alerts = []alertConfig{{Name: "dead", Kind: "webhook", URL: hook.URL, Secret: testSecret, Watchdog: 10 * time.Second}}
	startEvaluating(t, c, &burning{})
	eventually(t, "a beat", func() bool { return beats.Load() == 1 })
	for fault, a := range map[string]alertConfig{
		"watchdog: 1s: want 10s to 24h0m0s": {Name: "a", Kind: "webhook", URL: hook.URL, Secret: testSecret, Watchdog: time.Second},
		"watchdog: given for the kind":      {Name: "a", Kind: "slack", URL: hook.URL + "/x", Watchdog: time.Minute},
	} {
		c.Tenants[0].Alerts = []alertConfig{a}
		if _, err := c.alertTargets(); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%v: no %q", err, fault)
		}
	}
}
