package main

import (
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/alerting/protection/githubtest"
)

// TestDeploymentProtection has a job on GitHub wait through a hold and a restart, and go
// on at the promote.
func TestDeploymentProtection(t *testing.T) {
	github := githubtest.New(t, time.Now)
	file := filepath.Join(t.TempDir(), "app.pem")
	if err := os.WriteFile(file, github.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	c := testConfig(t.TempDir())
	c.WebhookAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c.Tenants[0].Protections = []protectionConfig{{Name: "gh", Repository: githubtest.Repository, App: githubtest.Issuer, KeyFile: file, Secret: "a secret of the webhook", Rollout: "r{version}", Environments: map[string]int{"production": 0}, URL: github.URL}}
	s, stop := startServer(t, c)
	post := func(secret string, want int) {
		t.Helper()
		body := githubtest.Event("production", "v1")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url()+"/v1/github/own/gh", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		githubtest.Sign(req, secret, body)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if text, _ := io.ReadAll(res.Body); res.StatusCode != want {
			t.Fatalf("%d %s, want %d", res.StatusCode, text, want)
		}
	}
	post("another secret, as long", http.StatusUnauthorized)
	post("a secret of the webhook", http.StatusAccepted) // before the rollout is registered
	createRollout(t, s)
	override(t, s, "hold")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s, _ = startServer(t, c)
	time.Sleep(300 * time.Millisecond)
	if got := github.Reviews(); len(got) > 0 {
		t.Fatalf("a hold is reviewed: %s", got)
	}
	override(t, s, "promote")
	for end := time.Now().Add(20 * time.Second); len(github.Reviews()) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it was not reviewed")
		}
	}
	if got := github.Reviews()[0]; !strings.HasPrefix(got, "production approved ") {
		t.Error(got)
	}
}

func TestProtectionFaults(t *testing.T) {
	c := testConfig(t.TempDir())
	c.Tenants[0].Protections = []protectionConfig{{Name: "a/b", Secret: "short", KeyFile: "absent.pem", Environments: map[string]int{"x": 40, "a": 41, "m": 42, "b": -1}}, {Name: "b", Secrets: []string{"a secret of the webhook"}, KeyFile: os.Args[0], Rollout: "r"}}
	_, err := c.protections()
	if err == nil {
		t.Fatal("no fault")
	}
	// Faults of a map come in one order, however often they are told.
	order := []int{}
	for _, name := range []string{"a", "b", "m", "x"} {
		order = append(order, strings.Index(err.Error(), "environments."+name+":"))
	}
	if order[0] < 0 || !slices.IsSorted(order) {
		t.Errorf("%v in\n%v", order, err)
	}
	for _, want := range []string{`protections[0].name: "a/b"`, "protections[0].secret[0]: 5 bytes: want 16", "protections[0].rollout: absent", "protections[0].environments.x: 40", "protections[0].key_file: ",
		`protections[1].repository: ""`, "protections[1].issuer: absent", "protections[1].key: ", "protections[1].environments: none"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "short") {
		t.Error("a secret is told")
	}
}
