package main

import (
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

// TestToolIsTold has a rollback turn a flag off, at a server that fails at first.
func TestToolIsTold(t *testing.T) {
	asked := make(chan string, 10)
	failed := false
	ld := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if !failed {
			failed = true
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		asked <- r.Method + " " + r.URL.Path + " " + r.Header.Get("Authorization") + " " + string(raw)
	}))
	defer ld.Close()
	secret := filepath.Join(t.TempDir(), "ld.token")
	if err := os.WriteFile(secret, []byte("a-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := testConfig(t.TempDir())
	c.WebhookAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c.Tenants[0].Tools = []toolConfig{{Name: "kill", Kind: "launchdarkly", URL: ld.URL, Project: "p", Environment: "prod", Flag: "f", TokenFile: secret}}
	s, _ := startServer(t, c)
	createRollout(t, s)
	override(t, s, "rollback")
	select {
	case got := <-asked:
		if !strings.HasPrefix(got, "PATCH /api/v2/flags/p/f a-token {") || !strings.Contains(got, "turnFlagOff") {
			t.Error(got)
		}
	case <-time.After(20 * time.Second):
		t.Error("it was not told")
	}
}

func TestToolFaults(t *testing.T) {
	c := testConfig(t.TempDir())
	c.Tenants[0].Tools = []toolConfig{{Name: "a", Kind: "github", Repository: "x"}, {Kind: "jenkins"}, {Name: "a", Kind: "app_store", KeyFile: "absent.pem"},
		{Name: "b", Kind: "gitlab", Project: "1", Flag: "f", Token: "t", TokenFile: "absent.token"}}
	_, err := c.targets()
	if err == nil {
		t.Fatal("no fault")
	}
	for _, want := range []string{"tenants[0].tools[0].token: absent", `tenants[0].tools[0].repository: "x"`, `tenants[0].tools[1].kind: "jenkins"`, `tenants[0].tools[1].name: ""`, "tenants[0].tools[2].key_file:", `tenants[0].tools[2].name: "a"`,
		"tenants[0].tools[3].token: given beside token_file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in\n%v", want, err)
		}
	}
}
