package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"serin.dev/serin/analysis"
)

// beSerin makes the test's binary the command, for tests that kill it.
const beSerin = "SERIN_TEST_BE_SERIN"

func TestMain(m *testing.M) {
	// A server's tasters are this binary again, with no environment: they must
	// not become a run of the tests, each with servers of its own.
	if os.Getenv(beSerin) != "" || len(os.Args) > 1 && os.Args[1] == tasterCommand {
		main()
		return
	}
	testscript.Main(m, map[string]func(){"serin": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": await}})
}

// await waits until a file is there, which a command in the background makes.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	for range 400 {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	ts.Fatalf("%s did not come", args[0])
}

// The tokens and keys of testConfig.
const (
	ownToken     = "sk_own_releaser"
	ownViewer    = "sk_own_viewer"
	foreignToken = "sk_foreign_admin"
	ownKey       = "pk_own"
	foreignKey   = "pk_foreign"
)

// testConfig has two tenants that must not see one another.
func testConfig(dir string) config {
	return config{Listen: "127.0.0.1:0", Data: dir, SealAfter: 2 * time.Second, Journal: journalConfig{MaxAge: time.Hour}, Tenants: []tenantConfig{
		{ID: "own", Keys: []keyConfig{{Key: ownKey}}, Tokens: []tokenConfig{
			{Name: "ci", Role: "releaser", Token: ownToken}, {Name: "wall", Role: "viewer", Token: ownViewer}}},
		{ID: "foreign", Keys: []keyConfig{{Key: foreignKey}}, Tokens: []tokenConfig{{Name: "boss", Role: "admin", Token: foreignToken}}},
	}}
}

// startServer runs a server until the returned function is called, which
// returns what run returned.
func startServer(t *testing.T, c config) (s *server, stop func() error) {
	t.Helper()
	s, err := newServer(t.Context(), c, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	for range 200 {
		if _, err := get(t.Context(), s.url()+"/readyz", ""); err == nil {
			return s, stop
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("the server did not become ready")
	return nil, nil
}

const testRollout = `{"id":"r1","app":"shop-web","change":"release/2.4.1","canary":"2.4.1","baseline":"2.4.0",
 "stages":[{"weight":0.5,"min_sessions":20,"dwell":"1s","deadline":"5m"}],"policy":{"epoch":"1s","silence_after":"5s"}}`

func createRollout(t *testing.T, s *server) {
	t.Helper()
	if _, err := call(t.Context(), "POST", s.url()+"/v1/rollouts", ownToken, strings.NewReader(testRollout)); err != nil {
		t.Fatal(err)
	}
}

// runCommand runs the command line in this process.
func runCommand(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestVerdictExitStatus(t *testing.T) {
	file := filepath.Join(t.TempDir(), "slo.yaml")
	if err := os.WriteFile(file, []byte(sloFile), 0o600); err != nil {
		t.Fatal(err)
	}
	c := testConfig(t.TempDir())
	c.Tenants[0].Objectives = []string{file}
	s, _ := startServer(t, c)
	createRollout(t, s)
	t.Setenv("SERIN_SERVER", s.url())
	t.Setenv("SERIN_TOKEN", ownViewer)
	for _, c := range []struct {
		override string
		want     int
	}{{"", 10}, {"promote", 0}, {"hold", 10}, {"rollback", 20}} {
		if c.override != "" {
			body := `{"decision":"` + c.override + `","why":"a test"}`
			if _, err := call(t.Context(), "POST", s.url()+"/v1/rollouts/r1/override", ownToken, strings.NewReader(body)); err != nil {
				t.Fatal(err)
			}
		}
		status, stdout, stderr := runCommand(t, "verdict", "r1")
		if status != c.want {
			t.Errorf("override %q: exit status %d, want %d; %s%s", c.override, status, c.want, stdout, stderr)
		}
		if c.override != "" && !strings.Contains(stdout, "ci") {
			t.Errorf("the sentence does not name who decided: %s", stdout)
		}
	}
	// A gate's URL says the same without a token; the budget of an objective counts
	// beside it, and what allows least decides.
	gate := gateURL(t, s, "gate")
	for _, c := range []struct {
		override string
		want     int
	}{{"promote", 0}, {"hold", 10}, {"rollback", 20}} {
		override(t, s, c.override)
		for _, args := range [][]string{{"gate", "--rollout", "r1"}, {"gate", "--url", gate, "--token", "none"}, {"gate", "--url", gate, "--rollout", "r1", "--slo", "checkout-errors"}} {
			if status, stdout, stderr := runCommand(t, args...); status != c.want || !strings.HasPrefix(stdout, c.override+"\n") {
				t.Errorf("override %q: %v: exit status %d, want %d; %s%s", c.override, args[:2], status, c.want, stdout, stderr)
			}
		}
	}
	for _, args := range [][]string{{"gate", "--rollout", "absent"}, {"gate", "--rollout", "r1", "--slo", "absent", "--wait"}, {"gate", "--rollout", "r1", "--token", foreignToken}, {"gate", "--url", s.url() + "/v1/nothing"}} {
		if status, stdout, stderr := runCommand(t, args...); status != 1 || stdout != "" {
			t.Errorf("%v: exit status %d; %s%s", args, status, stdout, stderr)
		}
	}
	if status, stdout, _ := runCommand(t, "gate", "--url", s.url()+"/v1/gate/nobody"); status != 10 || !strings.Contains(stdout, "capability") {
		t.Errorf("a gate that nobody knows: exit status %d, %s", status, stdout)
	}
	override(t, s, "hold")
	type ended struct {
		status         int
		stdout, stderr string
	}
	waited := make(chan ended, 1)
	go func() {
		status, stdout, stderr := runCommand(t, "gate", "--rollout", "r1", "--wait", "--every", "100ms", "--timeout", "20s")
		waited <- ended{status, stdout, stderr}
	}()
	time.Sleep(500 * time.Millisecond)
	override(t, s, "promote")
	if e := <-waited; e.status != 0 {
		t.Errorf("waiting for a promote: %+v", e)
	}
	override(t, s, "rollback")
	// What has no answer must be none of the three.
	if status, _, stderr := runCommand(t, "verdict", "absent"); status != 1 || !strings.Contains(stderr, "absent") {
		t.Errorf("an unknown rollout: exit status %d, %s", status, stderr)
	}
	if status, _, _ := runCommand(t, "verdict", "r1", "-token", foreignToken); status != 1 {
		t.Errorf("a foreign token: exit status %d, want 1", status)
	}
	if status, _, stderr := runCommand(t, "verdict", "--wait", "--timeout", "1s", "--token", ownViewer, "r1"); status != 20 {
		t.Errorf("waiting for a verdict that is there: exit status %d, %s", status, stderr)
	}
}

// TestBacktestEqualsLive has a server judge simulated clients, with a restart
// on the way, and recomputes its verdicts from its segments.
func TestBacktestEqualsLive(t *testing.T) {
	dir := t.TempDir()
	c := testConfig(dir)
	s, stop := startServer(t, c)
	createRollout(t, s)
	var out sent
	clients := traffic{key: ownKey, app: "shop-web", change: "release/2.4.1", canary: "2.4.1", baseline: "2.4.0", weight: 0.5, rate: 60, broken: "mobile", seed: 7}
	judge := func(wait time.Duration) (v string) {
		clients.server, clients.seed = s.url(), clients.seed+1
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		clients.run(ctx, &out)
		raw, err := get(t.Context(), s.url()+"/v1/rollouts/r1/verdict", ownToken)
		if err != nil {
			t.Fatal(err)
		}
		var m struct{ Decision, Sentence string }
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d beacons acknowledged, %d not: %s", out.beacons.Load(), out.failed.Load(), m.Sentence)
		return m.Decision
	}
	judge(3 * time.Second)
	for _, asked := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"next", "r1", "--server", s.url(), "--token", ownViewer}, 0, "Next step: "},
		{[]string{"next", "r1", "--server", s.url(), "--token", ownViewer, "--json"}, 0, `"sessions_per_hour": `},
		{[]string{"next", "absent", "--server", s.url(), "--token", ownViewer}, 1, "no such rollout"},
		{[]string{"next", "r1", "--server", s.url(), "--token", foreignToken}, 1, "404"},
		{[]string{"next"}, 2, "want 1"},
	} {
		if status, stdout, stderr := runCommand(t, asked.args...); status != asked.status || !strings.Contains(stdout+stderr, asked.want) {
			t.Errorf("%v: exit status %d, no %q\n%s%s", asked.args, status, asked.want, stdout, stderr)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s, stop = startServer(t, c)
	decision := ""
	for range 15 {
		if decision = judge(4 * time.Second); decision == "rollback" {
			break
		}
	}
	if decision != "rollback" {
		t.Fatalf("a canary that breaks most sessions is on %s", decision)
	}
	t.Setenv("NO_COLOR", "1")
	svg := filepath.Join(dir, "r1.svg")
	explained := func(args ...string) {
		t.Helper()
		status, stdout, stderr := runCommand(t, append([]string{"explain", "r1", "--width", "90", "--svg", svg}, args...)...)
		for _, want := range []string{"Roll back release/2.4.1", "GUARDRAIL", "STRATUM", "error_free", "LOSS", "no_show", "Next step: ", "FAILED ON THE CANARY", "rollback at 4.61", "harm, all", "UTC"} {
			if status != 0 || !strings.Contains(stdout, want) {
				t.Fatalf("explain %v: exit status %d, no %q\n%s%s", args, status, want, stdout, stderr)
			}
		}
		if data, err := os.ReadFile(svg); err != nil || !bytes.HasPrefix(data, []byte("<svg ")) || os.Remove(svg) != nil {
			t.Errorf("explain %v: drawing: %v", args, err)
		}
	}
	explained("--server", s.url(), "--token", ownViewer)
	if status, stdout, stderr := runCommand(t, "explain", "r1", "--server", s.url(), "--token", foreignToken); status != 1 || stdout != "" || !strings.Contains(stderr, "404") {
		t.Errorf("a foreign token: exit status %d\n%s%s", status, stdout, stderr)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	explained("--segments", c.path("segments"), "--tenant", "own")
	status, stdout, stderr := runCommand(t, "backtest", "--segments", c.path("segments"), "--tenant", "own", "r1")
	if status != 0 || !strings.Contains(stdout, "0 differ") || !strings.Contains(stdout, "rollback") {
		t.Fatalf("exit status %d\n%s%s", status, stdout, stderr)
	}
	// Another policy is tried on what was recorded.
	trial := filepath.Join(dir, "trial.yaml")
	if err := os.WriteFile(trial, []byte("kind: policy\nname: careless\nversion: 1\nalpha: 1e-40\nepoch: 1s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr = runCommand(t, "backtest", "--segments", c.path("segments"), "--tenant", "own", "--policy", trial, "--all")
	if status != 0 || !strings.Contains(stdout, "rollback was given, and no decision would have been") || !strings.Contains(stdout, "1 rollouts tried, 1 would have been decided otherwise") {
		t.Errorf("exit status %d\n%s%s", status, stdout, stderr)
	}
	// A ledger that was changed must be found out.
	path := c.path("segments/_rollouts/own/r1.json")
	ledger, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var records []analysis.Record
	if err := json.Unmarshal(ledger, &records); err != nil {
		t.Fatal(err)
	}
	for i := range records {
		if records[i].Verdict != nil {
			records[i].Verdict.Sessions.Canary++
		}
	}
	forged, err := json.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, forged, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, stdout, _ := runCommand(t, "backtest", "--segments", c.path("segments"), "--tenant", "own", "r1"); status != 1 || !strings.Contains(stdout, "DIFFERS") {
		t.Errorf("a forged ledger: exit status %d\n%s", status, stdout)
	}
}
