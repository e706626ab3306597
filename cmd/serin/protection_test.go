package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDeploymentProtection has a job on GitHub wait through a hold and a restart, and go
// on at the promote.
func TestDeploymentProtection(t *testing.T) {
	reviews := make(chan string, 10)
	github := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/app/installations/") {
			fmt.Fprint(w, `{"token":"ghs"}`)
			return
		}
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		reviews <- r.URL.Path + " " + string(raw)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer github.Close()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "app.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	c := testConfig(t.TempDir())
	c.WebhookAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c.Tenants[0].Protections = []protectionConfig{{Name: "gh", Repository: "acme/shop", App: "1", KeyFile: file, Secret: "a secret of the webhook", Rollout: "r{version}", Environments: map[string]int{"production": 0}, URL: github.URL}}
	s, stop := startServer(t, c)
	post := func(secret string, want int) {
		t.Helper()
		body := `{"action":"requested","environment":"production","ref":"refs/tags/v1","deployment_callback_url":"https://api.github.com/repos/acme/shop/actions/runs/5/deployment_protection_rule","repository":{"full_name":"acme/shop"},"installation":{"id":7}}`
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(body))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url()+"/v1/github/own/gh", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
		req.Header.Set("X-GitHub-Event", "deployment_protection_rule")
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
	select {
	case got := <-reviews:
		t.Fatalf("a hold is reviewed: %s", got)
	case <-time.After(300 * time.Millisecond):
	}
	override(t, s, "promote")
	select {
	case got := <-reviews:
		if !strings.HasPrefix(got, `/repos/acme/shop/actions/runs/5/deployment_protection_rule {`) || !strings.Contains(got, `"state":"approved"`) || !strings.Contains(got, `"environment_name":"production"`) {
			t.Error(got)
		}
	case <-time.After(20 * time.Second):
		t.Error("it was not reviewed")
	}
}

func TestProtectionFaults(t *testing.T) {
	c := testConfig(t.TempDir())
	c.Tenants[0].Protections = []protectionConfig{{Name: "a/b", Secret: "short", KeyFile: "absent.pem", Environments: map[string]int{"x": 40}}, {Name: "b", Secrets: []string{"a secret of the webhook"}, KeyFile: os.Args[0], Rollout: "r"}}
	_, err := c.protections()
	if err == nil {
		t.Fatal("no fault")
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
