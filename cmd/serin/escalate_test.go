package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"serin.dev/serin/analysis"
	"serin.dev/serin/internal/store/journal"
)

// tools are receivers that fail until they are told to work.
type tools struct {
	mu    sync.Mutex
	work  map[string]bool // by the first part of the path
	tries map[string]int
}

func (x *tools) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	defer x.mu.Unlock()
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	x.tries[name]++
	if !x.work[name] {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (x *tools) asked(name string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.tries[name]
}

func (x *tools) repair(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.work[name] = true
}

// ladderConfig has a tool, a second one, a kill switch, and a page a second apart.
func ladderConfig(t *testing.T, dir string) (config, *tools, *receivers) {
	t.Helper()
	x := &tools{work: map[string]bool{}, tries: map[string]int{}}
	server := httptest.NewServer(x)
	t.Cleanup(server.Close)
	told, url := startReceivers(t)
	c := alertConfigFor(dir, url)
	c.WebhookAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c.Tenants[0].Webhooks = []webhookConfig{{Name: "deploy", URL: server.URL + "/deploy", Secret: webhookSecret}, {Name: "second", URL: server.URL + "/second", Secret: webhookSecret}}
	c.Tenants[0].Tools = []toolConfig{{Name: "kill", Kind: "launchdarkly", URL: server.URL + "/kill", Project: "p", Environment: "prod", Flag: "f", Token: "t"}}
	c.Tenants[0].Escalation.Steps = []stepConfig{{After: time.Second, To: "second"}, {After: time.Second, To: "kill"}, {After: time.Second, Page: []string{"pager", "am"}}}
	return c, x, told
}

// steps returns the steps of the rollout's ladder that were recorded, in their order.
func steps(t *testing.T, s *server) (all []string) {
	t.Helper()
	_, last, err := s.control.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = s.control.Scan(t.Context(), 1, last, func(m journal.Message) error {
		r, err := analysis.ParseRecord(m.Data)
		if err == nil && r.Delivery != nil && r.Delivery.Outcome == analysis.Escalated {
			all = append(all, fmt.Sprintf("%d %s", r.Delivery.Step, r.Delivery.Target))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEscalation has a rollback that nobody takes climb its ladder to the page, over
// a restart, each step once, until the kill switch takes it.
func TestEscalation(t *testing.T) {
	c, x, told := ladderConfig(t, t.TempDir())
	s, stop := startServer(t, c)
	createRollout(t, s)
	override(t, s, "promote")
	time.Sleep(1200 * time.Millisecond)
	if got := steps(t, s); len(got) > 0 || x.asked("second")+x.asked("kill") > 0 {
		t.Errorf("a promote escalates: %v", got)
	}
	override(t, s, "rollback")
	eventually(t, "the second tool is tried", func() bool { return x.asked("second") > 0 })
	if got := steps(t, s); !slices.Equal(got, []string{"1 second"}) {
		t.Errorf("steps %v, want the first alone", got)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s, _ = startServer(t, c)
	eventually(t, "somebody is paged", func() bool {
		return slices.Contains(told.events("/pager"), "trigger") && strings.Contains(strings.Join(told.events("/api/v2/alerts"), " "), "SerinRollbackUnacknowledged=open")
	})
	want := []string{"1 second", "2 kill", "3 page"}
	if got := steps(t, s); !slices.Equal(got, want) {
		t.Errorf("steps %v, want %v", got, want)
	}
	if n := len(told.events("/chat")) + len(told.events("/hook")); n > 0 {
		t.Errorf("%d messages to targets that the step does not name", n)
	}
	t.Setenv("SERIN_SERVER", s.url())
	t.Setenv("SERIN_TOKEN", ownViewer)
	list := func() string {
		status, stdout, stderr := runCommand(t, "deliveries", "list")
		if status != 0 {
			t.Fatal(stderr)
		}
		return strings.Join(strings.Fields(stdout), " ")
	}
	for _, want := range []string{"r1 second 1 escalated", "r1 kill 2 escalated", "r1 page 3 escalated", "r1 deploy - waiting"} {
		if got := list(); !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if status, stdout, stderr := runCommand(t, "alerts"); status != 0 || !strings.Contains(stdout, "rollback_unacknowledged") || !strings.Contains(stdout, "roll it back by hand") {
		t.Errorf("%s%s", stdout, stderr)
	}

	// A later acknowledgement ends it, for all that wait.
	x.repair("kill")
	eventually(t, "the page is resolved", func() bool {
		return slices.Contains(told.events("/pager"), "resolve") && strings.Contains(strings.Join(told.events("/api/v2/alerts"), " "), "SerinRollbackUnacknowledged=ended")
	})
	eventually(t, "the second tool is told no more", func() bool { return strings.Contains(list(), "r1 second 1 overtaken") })
	if got := list(); !strings.Contains(got, "r1 kill 2 delivered") {
		t.Errorf("the kill switch's 200 is not listed: %s", got)
	}
	if got := steps(t, s); !slices.Equal(got, want) {
		t.Errorf("steps %v after the end, want %v", got, want)
	}
	if got := told.events("/pager"); !slices.Equal(got, []string{"trigger", "resolve"}) {
		t.Errorf("the pager got %v", got)
	}
}

// TestAcknowledgedInTime has the first receiver take a rollback, and a tool that asks
// take the next one: nothing escalates.
func TestAcknowledgedInTime(t *testing.T) {
	c, x, _ := ladderConfig(t, t.TempDir())
	x.repair("deploy")
	s, stop := startServer(t, c)
	createRollout(t, s)
	override(t, s, "rollback")
	time.Sleep(2500 * time.Millisecond)
	if got := steps(t, s); len(got) > 0 {
		t.Errorf("acknowledged, and escalated: %v", got)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c, x, _ = ladderConfig(t, t.TempDir())
	c.Tenants[0].Escalation.AcknowledgedBy = []string{"gate"}
	x.repair("deploy") // whose 2xx is none here
	s, _ = startServer(t, c)
	createRollout(t, s)
	override(t, s, "rollback")
	eventually(t, "the first step begins", func() bool { return len(steps(t, s)) == 1 })
	raw, err := call(t.Context(), http.MethodPost, s.url()+"/v1/rollouts/r1/gate", ownToken, strings.NewReader(`{}`))
	var made struct{ Path string }
	if err == nil {
		err = json.Unmarshal(raw, &made)
	}
	if err == nil {
		raw, err = get(t.Context(), s.url()+made.Path, "")
	}
	if err != nil || !strings.Contains(string(raw), `"decision":"rollback"`) {
		t.Fatalf("%s %v", raw, err)
	}
	time.Sleep(2500 * time.Millisecond)
	if got := steps(t, s); len(got) != 1 {
		t.Errorf("a tool asked, and it went on to %v", got)
	}
}

func TestLadderFaults(t *testing.T) {
	c, _, _ := ladderConfig(t, t.TempDir())
	if _, err := c.ladders(); err != nil {
		t.Fatal(err)
	}
	c.Tenants[0].Escalation = escalationConfig{AcknowledgedBy: []string{"nobody"}, Steps: []stepConfig{{To: "kil"}, {After: time.Minute, Page: []string{"phone"}}}}
	c.Tenants[0].Tools = append(c.Tenants[0].Tools, toolConfig{Name: "page", Kind: "launchdarkly", Project: "p", Environment: "prod", Flag: "f", Token: "t"})
	_, err := c.directory()
	for _, want := range []string{`tenants[0].escalation.steps[0].to: "kil": want one of`, "tenants[0].escalation.steps[0].after: 0s: want 1s to 24h0m0s", `tenants[0].escalation.steps[1].page: "phone": want of`,
		`tenants[0].escalation.acknowledged_by[0]: "nobody": want gate`, `a webhook or tool "page"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in\n%v", want, err)
		}
	}
}
