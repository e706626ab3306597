package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const planPolicy = `kind: policy
name: web
version: 1
alpha: 0.02
`

const planRollout = `kind: rollout
id: r7
app: shop-web
change: release/2.4.1
canary: 2.4.1
baseline: 2.4.0
stages: [{weight: 0.1}]
policy: {name: web}
`

// TestPlanApply takes a folder of files to a server, changes one, tries it beside
// the active policy, and goes back.
func TestPlanApply(t *testing.T) {
	c := testConfig(t.TempDir())
	c.Tenants[0].Tokens = append(c.Tenants[0].Tokens, tokenConfig{Name: "boss", Role: "admin", Token: "sk_own_admin"})
	s, stop := startServer(t, c)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SERIN_SERVER", s.url())
	t.Setenv("SERIN_TOKEN", ownToken)
	run := func(status int, wants []string, args ...string) string {
		t.Helper()
		got, stdout, stderr := runCommand(t, args...)
		if got != status {
			t.Fatalf("serin %v: exit status %d, want %d: %s%s", args, got, status, stdout, stderr)
		}
		for _, want := range wants {
			if !strings.Contains(stdout+stderr, want) {
				t.Errorf("serin %v: no %q in\n%s%s", args, want, stdout, stderr)
			}
		}
		return stdout
	}
	write("web.yaml", planPolicy)
	write("rollout.yaml", planRollout)
	run(0, []string{"create  policy web (version 1)", "create  rollout r7", "2 changes"}, "plan", dir)
	run(0, []string{"change 1: policy web", "created rollout r7"}, "apply", dir)
	run(0, []string{"keep    policy web", "keep    rollout r7", "0 changes"}, "plan", dir)
	raw, err := get(t.Context(), s.url()+"/v1/rollouts/r7", ownToken)
	if err != nil || !strings.Contains(string(raw), `"alpha":0.02`) {
		t.Errorf("the rollout is not under the policy: %s, %v", raw, err)
	}

	write("web.yaml", strings.NewReplacer("version: 1", "version: 2", "0.02", "0.05").Replace(planPolicy))
	run(0, []string{"change  policy web (version 2; change 1 by ci)", "- alpha: 0.02", "+ alpha: 0.05", "1 rollout under way keep", "r7"}, "plan", dir)
	run(0, []string{"change 2: policy web", "tried beside the active policy of r7"}, "apply", "--shadow", dir)
	raw, err = get(t.Context(), s.url()+"/v1/rollouts/r7", ownToken)
	if err != nil || !strings.Contains(string(raw), `"alpha":0.02`) || !strings.Contains(string(raw), `"shadow":{`) {
		t.Errorf("no trial beside the active policy: %s, %v", raw, err)
	}

	// Back needs an admin; what was is a change of its own.
	run(1, []string{"this needs a admin"}, "apply", "--back", "1")
	t.Setenv("SERIN_TOKEN", "sk_own_admin")
	run(0, []string{"policy web is what it was after change 1"}, "apply", "--back", "1")
	run(1, []string{"want one before the newest"}, "apply", "--back", "3")
	run(0, []string{"3", "boss", "changed, back to after change 1", "created"}, "audit")
	run(0, []string{"- alpha: 0.02"}, "plan", filepath.Join(dir, "web.yaml"))

	// Files with faults change nothing, and all faults are told.
	write("web.yaml", strings.Replace(planPolicy, "0.02", "7", 1))
	write("other.yaml", "kind: dashboard\n")
	run(1, []string{"web.yaml:4: alpha: 7", `other.yaml: kind: "dashboard"`}, "apply", dir)
	if err := os.Remove(filepath.Join(dir, "other.yaml")); err != nil {
		t.Fatal(err)
	}
	write("web.yaml", planPolicy)
	run(2, nil, "plan")
	run(2, nil, "apply", "--back", "1", dir)

	// What was changed meanwhile is not overwritten.
	if _, err := call(t.Context(), "PUT", s.url()+"/v1/documents/policy/web", ownToken, strings.NewReader(`{"text":"","basis":1}`)); err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
		t.Errorf("a put on an old basis: %v", err)
	}
	for body, want := range map[string]string{`{"text":"kind: policy\nname: other\nversion: 1\n"}`: "which the text has", `{"text":"x"}`: "fields of a policy", `{"txt":""}`: "txt: unknown field: want one of basis, text", `{"text":"x","text":""}`: "text: twice", `{"text":""}{}`: "after top-level value", `{"basis":3}`: "text: absent or null: want the document's text", `{"text":null}`: "text: absent or null: want the document's text"} {
		if _, err := call(t.Context(), "PUT", s.url()+"/v1/documents/policy/web", ownToken, strings.NewReader(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}

	if _, err := call(t.Context(), "PUT", s.url()+"/v1/documents/policy/never", ownToken, strings.NewReader(`{"text":""}`)); err == nil || !strings.Contains(err.Error(), "there is nothing to remove") {
		t.Errorf("a document that never was is removed: %v", err)
	}
	if _, err := call(t.Context(), "POST", s.url()+"/v1/documents/check", ownToken, strings.NewReader(`{"changes":[{"kind":"policy","name":"web"}]}`)); err == nil || !strings.Contains(err.Error(), "changes[0].text: absent or null") {
		t.Errorf("a change without a text: %v", err)
	}

	// All of it is there after a start.
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	again, _ := startServer(t, c)
	t.Setenv("SERIN_SERVER", again.url())
	run(0, []string{"back to after change 1"}, "audit")
	if err := os.Remove(filepath.Join(dir, "web.yaml")); err != nil {
		t.Fatal(err)
	}
	run(0, []string{"remove  policy web"}, "plan", "--prune", dir)
}

// TestApplyObjectives applies a folder of objectives, a policy and a rollout at once:
// all of it or nothing.
func TestApplyObjectives(t *testing.T) {
	c := testConfig(t.TempDir())
	c.Tenants[0].Tokens = append(c.Tenants[0].Tokens, tokenConfig{Name: "boss", Role: "admin", Token: "sk_own_admin"})
	// The server's own file has one that is applied over, and one that is not.
	own := filepath.Join(t.TempDir(), "own.yaml")
	if err := os.WriteFile(own, []byte(sloFile+"---\n"+sloObject("other-errors", "0.9")), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Tenants[0].Objectives = []string{own}
	s, stop := startServer(t, c)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SERIN_SERVER", s.url())
	t.Setenv("SERIN_TOKEN", ownToken)
	run := func(status int, wants []string, args ...string) {
		t.Helper()
		got, stdout, stderr := runCommand(t, args...)
		for _, want := range wants {
			if got != status || !strings.Contains(stdout+stderr, want) {
				t.Fatalf("serin %v: exit status %d, want %d and %q:\n%s%s", args, got, status, want, stdout, stderr)
			}
		}
	}
	state := func(name string, wants ...string) {
		t.Helper()
		raw, err := get(t.Context(), s.url()+"/v1/slos/"+name, ownToken)
		for _, want := range wants {
			if err != nil || !strings.Contains(string(raw), want) {
				t.Fatalf("%s: no %s in %s, %v", name, want, raw, err)
			}
		}
	}
	write("slo.yaml", strings.Replace(sloFile, "target: 0.99}", "target: 0.995}", 1))
	write("web.yaml", planPolicy)
	write("rollout.yaml", planRollout)
	t.Setenv("SERIN_TOKEN", ownViewer) // who only looks may plan
	run(0, []string{"create  SLO checkout-errors", "create  Service checkout", "create  policy web (version 1)", "create  rollout r7", "5 changes"}, "plan", dir)
	run(1, []string{"needs a releaser", "nothing is applied"}, "apply", dir)
	t.Setenv("SERIN_TOKEN", ownToken)

	// One fault, of whatever kind, and nothing is applied.
	write("rollout.yaml", strings.Replace(planRollout, "{name: web}", "{name: absent}", 1))
	run(1, []string{`policy.name: "absent": want one of web`, "nothing is applied"}, "apply", dir)
	write("rollout.yaml", planRollout)
	write("slo.yaml", strings.Replace(sloFile, "metricSourceRef: serin", "metricSourceRef: absent", 1))
	run(1, []string{"SLO/checkout-errors:", "absent", "nothing is applied"}, "apply", dir)
	run(1, []string{"SLO/checkout-errors:"}, "plan", dir)
	var list struct{ Changes []any }
	if raw, err := get(t.Context(), s.url()+"/v1/documents/changes", ownToken); err != nil || json.Unmarshal(raw, &list) != nil || len(list.Changes) > 0 {
		t.Fatalf("something is applied: %v, %v", list, err)
	}
	if _, err := get(t.Context(), s.url()+"/v1/rollouts/r7", ownToken); err == nil {
		t.Fatal("the rollout is registered")
	}

	write("slo.yaml", strings.Replace(sloFile, "target: 0.99}", "target: 0.995}", 1))
	run(0, []string{"change 1: DataSource serin", "change 4: policy web", "created rollout r7"}, "apply", dir)
	state("checkout-errors", `"target":0.995`)
	state("other-errors", `"target":0.9`)
	run(0, []string{"0 changes"}, "plan", dir)

	write("slo.yaml", strings.Replace(sloFile, "target: 0.99}", "target: 0.97}", 1))
	run(0, []string{"change  SLO checkout-errors (change 2 by ci)", "-   objectives: [{target: 0.995}]", "+   objectives: [{target: 0.97}]", "1 change"}, "plan", dir)
	run(0, []string{"change 5: SLO checkout-errors"}, "apply", dir)
	state("checkout-errors", `"target":0.97`)
	// What is needed is not removed, and an alert that can never fire is refused.
	if _, err := call(t.Context(), "PUT", s.url()+"/v1/documents/DataSource/serin", ownToken, strings.NewReader(`{"text":"","basis":1}`)); err == nil || !strings.Contains(err.Error(), "SLO/checkout-errors") {
		t.Errorf("a data source that is needed is removed: %v", err)
	}

	t.Setenv("SERIN_TOKEN", "sk_own_admin")
	run(1, []string{"changes 1 to 4 were made together", "want 0 or 4"}, "apply", "--back", "2")
	run(0, []string{"SLO checkout-errors is what it was after change 4"}, "apply", "--back", "4")
	state("checkout-errors", `"target":0.995`)
	run(0, []string{"6", "boss", "back to after change 4", "ci"}, "audit")
	run(0, []string{`"before":"apiVersion: openslo/v1`}, "audit", "--json")

	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s, stop = startServer(t, c)
	t.Setenv("SERIN_SERVER", s.url())
	state("checkout-errors", `"target":0.995`)
	run(0, []string{"registered"}, "plan", filepath.Join(dir, "rollout.yaml"))
	run(0, []string{"SLO checkout-errors is what it was after change 0"}, "apply", "--back", "0")
	state("checkout-errors", `"target":0.99,`) // the server's own again
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if status, stdout, stderr := runCommand(t, "backtest", "--segments", c.path("segments"), "--tenant", "own", "r7"); status != 0 || !strings.Contains(stdout, "0 differ") {
		t.Errorf("backtest: %d\n%s%s", status, stdout, stderr)
	}
	if status, stdout, stderr := runCommand(t, "backtest", "--segments", c.path("segments"), "--tenant", "own", "--slo", "checkout-errors"); status != 0 || !strings.Contains(stdout, "0 differ") {
		t.Errorf("backtest of the objective: %d\n%s%s", status, stdout, stderr)
	}
}

// sloObject is another SLO beside those of sloFile.
func sloObject(name, target string) string {
	_, object, _ := strings.Cut(sloFile, "connectionDetails: {}}\n---\n")
	return strings.NewReplacer("name: checkout-errors", "name: "+name, "target: 0.99", "target: "+target).Replace(object)
}
