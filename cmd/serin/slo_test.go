package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const sloFile = `apiVersion: openslo/v1
kind: Service
metadata: {name: checkout}
spec: {}
---
apiVersion: openslo/v1
kind: DataSource
metadata: {name: serin}
spec: {type: Serin, connectionDetails: {}}
---
apiVersion: openslo/v1
kind: SLO
metadata:
  name: checkout-errors
  annotations: {serin.dev/budget-policy: "approval at 25%, freeze at 0%"}
spec:
  service: checkout
  indicator:
    metadata: {name: error-free}
    spec:
      ratioMetric:
        counter: true
        bad:
          metricSource: {metricSourceRef: serin, spec: {app: shop-web, unit: session, fails: error_free}}
        total:
          metricSource: {metricSourceRef: serin, spec: {app: shop-web, unit: session, kind: any}}
  timeWindow: [{duration: 30d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.99}]
`

// TestSLOCommand has a server keep an objective, and asks it.
func TestSLOCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "slo.yaml")
	if err := os.WriteFile(file, []byte(sloFile), 0o600); err != nil {
		t.Fatal(err)
	}
	c := testConfig(t.TempDir())
	c.Tenants[0].Objectives = []string{filepath.Dir(file)}
	s, _ := startServer(t, c)
	sendBeacon(t, s, ownKey, "/checkout")
	t.Setenv("SERIN_SERVER", s.url())
	t.Setenv("SERIN_TOKEN", ownToken)
	for i := 0; ; i++ {
		status, stdout, stderr := runCommand(t, "slo", "who", "checkout-errors")
		if status != 0 {
			t.Fatalf("%d %s", status, stderr)
		}
		// What was received in the minute under way counts when it is over.
		if strings.HasPrefix(stdout, "checkout-errors: 0 of ") && strings.Contains(stdout, "sessions bad from ") {
			break
		}
		if i == 50 {
			t.Fatalf("%s", stdout)
		}
		time.Sleep(50 * time.Millisecond)
	}
	for i := 0; ; i++ {
		status, stdout, stderr := runCommand(t, "slo", "status")
		if status != 0 {
			t.Fatalf("%d %s", status, stderr)
		}
		if strings.Contains(stdout, "checkout-errors") && strings.Contains(stdout, "allow") {
			break
		}
		if i == 100 {
			t.Fatalf("%s", stdout)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if status, stdout, stderr := runCommand(t, "slo", "except", "checkout-errors", "--why", "a repair", "--for", "1h"); status != 0 {
		t.Errorf("%d %s%s", status, stdout, stderr)
	}
	raw, err := get(t.Context(), s.url()+"/v1/slos/checkout-errors", ownToken)
	if err != nil || !strings.Contains(string(raw), `"action":"allow"`) {
		t.Errorf("%s, %v", raw, err)
	}
	for _, action := range []string{"stop", "freeze"} {
		body := `{"why":"x","until":"2099-01-01T00:00:00Z","action":"` + action + `"}`
		if action == "freeze" {
			body = strings.Replace(body, "2099-01-01T00:00:00Z", time.Now().Add(time.Hour).UTC().Format(time.RFC3339), 1)
		}
		if _, err := call(t.Context(), "POST", s.url()+"/v1/slos/checkout-errors/exception", ownToken, strings.NewReader(body)); err == nil || !strings.Contains(err.Error(), "want allow or approval") || strings.Contains(err.Error(), "or freeze") {
			t.Errorf("an exception to %s: %v", action, err)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"slo", "who", "other"}, `objective "other"`},
		{[]string{"slo", "except", "checkout-errors", "--for", "10000h", "--why", "x"}, "within the next"},
		{[]string{"slo", "except", "checkout-errors"}, "why"},
	} {
		if status, _, stderr := runCommand(t, c.args...); status != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: %d %s, want %s", c.args, status, stderr, c.want)
		}
	}
}

func TestSLOFaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "slo.yaml")
	for text, want := range map[string]string{"target: 1": "objectives[0].target: 1", "duration: 0d": "duration", "unknown": "unknown"} {
		old := map[string]string{"target: 1": "target: 0.99", "duration: 0d": "duration: 30d", "unknown": "service: checkout"}[text]
		if text == "unknown" {
			text = "service: checkout\n  unknown: 1"
		}
		if err := os.WriteFile(file, []byte(strings.Replace(sloFile, old, text, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, stdout, stderr := runCommand(t, "check", file); status != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d %s%s", text, status, stdout, stderr)
		}
		c := testConfig(t.TempDir())
		c.Tenants[0].Objectives = []string{file}
		if _, _, err := c.objectives(); err == nil || !strings.Contains(err.Error(), "tenants[0].objectives") {
			t.Error(err)
		}
	}
}
