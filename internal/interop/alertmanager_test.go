package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/alerting/alertmanager"
	"serin.dev/serin/analysis/verdict"
)

// manager is a real Alertmanager.
type manager struct {
	url  string
	told chan group // by its own webhook
}

type group struct {
	Status string
	Alerts []struct {
		Status string
		Labels map[string]string
	}
}

// startAlertmanager runs the distribution's server: apt-get install prometheus-alertmanager.
func startAlertmanager(t *testing.T) *manager {
	t.Helper()
	bin, err := exec.LookPath("prometheus-alertmanager")
	if err != nil {
		t.Fatalf("%v; install prometheus-alertmanager", err)
	}
	m := &manager{told: make(chan group, 1000)}
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var g group
		if err := json.NewDecoder(r.Body).Decode(&g); err != nil {
			t.Error(err)
		}
		m.told <- g
	}))
	t.Cleanup(hook.Close)
	dir := t.TempDir()
	config := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `route:
  receiver: hook
  group_by: [alertname, tenant, slo]
  group_wait: 100ms
  group_interval: 500ms
  repeat_interval: 1h
receivers:
- name: hook
  webhook_configs: [{url: %q, send_resolved: true}]
`, hook.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cmd := exec.CommandContext(t.Context(), bin, "--config.file="+config, "--storage.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--cluster.listen-address=")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it ends as it was told to
		if t.Failed() {
			t.Logf("alertmanager said:\n%s", out.String())
		}
	})
	m.url = "http://" + address
	for range 400 {
		if res, err := http.Get(m.url + "/-/ready"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return m
			}
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("alertmanager did not become ready")
	return nil
}

type listed struct {
	Labels      map[string]string
	Annotations map[string]string
	Fingerprint string
	StartsAt    time.Time
	EndsAt      time.Time
	Status      struct {
		State      string
		SilencedBy []string
	}
}

// list returns the alerts that Alertmanager has as active, but for the watchdog.
func (m *manager) list(t *testing.T) (all []listed) {
	t.Helper()
	res, err := http.Get(m.url + "/api/v2/alerts")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(l listed) bool { return l.Labels["alertname"] == alertmanager.WatchdogName })
}

// next waits for the receiver's next group of incidents.
func (m *manager) next(t *testing.T) group {
	t.Helper()
	for {
		select {
		case g := <-m.told:
			if g.Alerts[0].Labels["alertname"] != alertmanager.WatchdogName {
				return g
			}
		case <-time.After(15 * time.Second):
			t.Fatal("alertmanager told its receiver nothing")
		}
	}
}

// quiet fails where the receiver is told anything within a time.
func (m *manager) quiet(t *testing.T, length time.Duration) {
	t.Helper()
	end := time.After(length)
	for {
		select {
		case g := <-m.told:
			if g.Alerts[0].Labels["alertname"] != alertmanager.WatchdogName {
				t.Errorf("the receiver was told %+v", g)
			}
		case <-end:
			return
		}
	}
}

// TestAlertmanager takes incidents through a real Alertmanager: fire, re-send, a
// changed severity, resolve, silence.
func TestAlertmanager(t *testing.T) {
	m := startAlertmanager(t)
	book := alert.New(alert.Policy{Evaluations: 1, KeepFiring: time.Millisecond, Reopen: time.Millisecond}, []alert.Target{{Tenant: "shop", Name: "am", Level: true}})
	target := alertmanager.Target{Tenant: "shop", URL: m.url, Client: http.DefaultClient}
	began := time.Now()
	// tick evaluates and tells; fast and slow are the rates of a page and a ticket.
	tick := func(slo, cohort string, fast, slow float64) {
		t.Helper()
		burn := func(name, severity string, rate float64) verdict.Burn {
			return verdict.Burn{Name: name, Severity: severity, Form: "burn", Threshold: 14.4, Long: "1h0m0s", Short: "5m0s", LongRate: verdict.Bound(rate), ShortRate: verdict.Bound(rate),
				Bad: int64(rate * 10), Total: 1000, Burning: rate >= 14.4, WhenBreaching: true, WhenResolved: true}
		}
		now := time.Now()
		book.Observe(&verdict.SLOState{Version: 1, Tenant: "shop", SLO: slo, Group: cohort, Service: "web", App: "shop-web", At: now, DataThrough: now, Completeness: 1, Target: 0.99,
			Alerts: []verdict.Burn{burn("page-1h", "page", fast), burn("ticket-1d", "ticket", slow)}, Sentence: fmt.Sprintf("burns at %v", fast)})
		book.Tell(now)
		alerts := append(target.Alerts(book.Level("shop", "am"), now), target.Watchdog(began, now))
		if err := target.Send(t.Context(), alerts); err != nil {
			t.Fatal(err)
		}
	}

	tick("checkout", "2.4.1", 20, 0)
	if g := m.next(t); g.Status != "firing" || len(g.Alerts) != 1 || g.Alerts[0].Labels["severity"] != "page" || g.Alerts[0].Labels["cohort"] != "2.4.1" {
		t.Fatalf("told %+v", g)
	}
	first := m.list(t)
	if len(first) != 1 || first[0].Status.State != "active" || first[0].Annotations["alerts"] != "page-1h" {
		t.Fatalf("listed %+v", first)
	}

	// Told again and again, with other numbers, it is one and the same, and nobody is
	// told twice.
	for rate := 21.0; rate < 26; rate++ {
		time.Sleep(100 * time.Millisecond)
		tick("checkout", "2.4.1", rate, 0)
	}
	again := m.list(t)
	if len(again) != 1 || again[0].Fingerprint != first[0].Fingerprint || !again[0].StartsAt.Equal(first[0].StartsAt) || !again[0].EndsAt.After(first[0].EndsAt) ||
		!strings.Contains(again[0].Annotations["description"], "burns at 25") {
		t.Fatalf("after five more: %+v, before %+v", again, first)
	}
	m.quiet(t, 1200*time.Millisecond)

	// The page ends and a ticket goes on: one ends, the other begins.
	tick("checkout", "2.4.1", 0, 20)
	seen := map[string]string{}
	for len(seen) < 2 || seen["page"] != "resolved" {
		for _, a := range m.next(t).Alerts {
			seen[a.Labels["severity"]] = a.Status
		}
	}
	if seen["ticket"] != "firing" {
		t.Errorf("told %v", seen)
	}
	if l := m.list(t); len(l) != 1 || l[0].Labels["severity"] != "ticket" {
		t.Errorf("listed %+v", l)
	}

	// All ends, and stays ended though it is told again.
	tick("checkout", "2.4.1", 0, 0)
	seen = map[string]string{}
	g := m.next(t)
	for _, a := range g.Alerts {
		seen[a.Labels["severity"]] = a.Status
	}
	if g.Status != "resolved" || seen["ticket"] != "resolved" {
		t.Errorf("told %+v", g)
	}
	tick("checkout", "2.4.1", 0, 0)
	m.quiet(t, 1200*time.Millisecond)
	if l := m.list(t); len(l) != 0 {
		t.Errorf("listed %+v", l)
	}

	// A silence of Alertmanager's own, by Serin's labels.
	post(t, m.url+"/api/v2/silences", fmt.Sprintf(`{"matchers":[{"name":"slo","value":"search","isRegex":false,"isEqual":true}],"startsAt":%q,"endsAt":%q,"createdBy":"ann","comment":"a load test"}`,
		time.Now().Format(time.RFC3339Nano), time.Now().Add(time.Hour).Format(time.RFC3339Nano)))
	tick("search", "", 20, 0)
	m.quiet(t, 1200*time.Millisecond)
	if l := m.list(t); len(l) != 1 || l[0].Status.State != "suppressed" || len(l[0].Status.SilencedBy) != 1 {
		t.Errorf("listed %+v", l)
	}
	tick("search", "", 0, 0)

	// And one of Serin's: Alertmanager hears nothing of what is silenced.
	if _, err := book.Silence(alert.Silence{Tenant: "shop", Matchers: []alert.Matcher{{Label: "slo", Op: "=", Value: "cart"}}, End: time.Now().Add(time.Hour), Who: "ann", Why: "a load test"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	tick("cart", "", 20, 0)
	m.quiet(t, 1200*time.Millisecond)
	if l := m.list(t); len(l) != 0 {
		t.Errorf("listed %+v", l)
	}
}

func post(t *testing.T, url, body string) {
	t.Helper()
	res, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if raw, _ := io.ReadAll(res.Body); res.StatusCode/100 != 2 {
		t.Fatalf("%s: %s %s", url, res.Status, raw)
	}
}
