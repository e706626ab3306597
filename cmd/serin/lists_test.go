package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestListsAsJSON asks each command that lists for JSON, and reads a list.
func TestListsAsJSON(t *testing.T) {
	c := testConfig(t.TempDir())
	c.Tenants[0].Tokens = append(c.Tenants[0].Tokens, tokenConfig{Name: "boss", Role: "admin", Token: "sk_own_admin"})
	s, _ := startServer(t, c)
	t.Setenv("SERIN_SERVER", s.url())
	t.Setenv("SERIN_TOKEN", "sk_own_admin")
	for _, args := range [][]string{{"release", "deployed", "shop-web", "2.4.1"}, {"silence", "add", "--for", "2h", "--why", "a load test", "slo=checkout"}} {
		if status, _, errs := runCommand(t, args...); status != 0 {
			t.Fatalf("%v: %d %s", args, status, errs)
		}
	}
	for command, want := range map[string]string{"release": `"release":"2.4.1"`, "silence": `"why":"a load test"`, "quarantine": "[]", "deliveries": "[]"} {
		status, out, errs := runCommand(t, command, "list", "--json")
		var list []any
		if err := json.Unmarshal([]byte(out), &list); status != 0 || err != nil || !strings.Contains(out, want) {
			t.Errorf("%s list --json: %d %s%s, %v", command, status, out, errs, err)
		}
	}
}

// TestGateIsNotReplayed refuses to tell again what a gate answered: nobody is told of
// it, and the yes before the first step is given once.
func TestGateIsNotReplayed(t *testing.T) {
	s, _ := startServer(t, testConfig(t.TempDir()))
	createRollout(t, s)
	t.Setenv("SERIN_SERVER", s.url())
	t.Setenv("SERIN_TOKEN", ownToken)
	raw, err := call(t.Context(), http.MethodPost, s.url()+"/v1/rollouts/r1/gate", ownToken, strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Path string }
	if err := json.Unmarshal(raw, &made); err != nil {
		t.Fatal(err)
	}
	begin := func() bool {
		_, err := call(t.Context(), http.MethodPost, s.url()+made.Path+"/flagger/confirm-traffic-increase", "", strings.NewReader(`{}`))
		return err == nil
	}
	if !begin() || begin() {
		t.Fatal("the yes before the first step was not given once")
	}
	if status, _, errs := runCommand(t, "deliveries", "replay", "begin_r1"); status != 1 || !strings.Contains(errs, "no such message") {
		t.Errorf("%d %s", status, errs)
	}
	if begin() {
		t.Error("the yes before the first step was given twice")
	}
}

// TestHoldsNothing refuses files that hold nothing, or more than what is read.
func TestHoldsNothing(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f.yaml")
	for _, c := range []struct{ command, text, want string }{
		{"check", "", "it holds nothing: want a configuration"},
		{"check", "# a comment\n---\n# another\n", "it holds nothing"},
		{"check", "tenants: []\n---\ntenants: [{id: shop}]\n", "f.yaml:3: another document: want one"},
		{"check", "tenants: []\n---\n# no more\n", ""},
		{"check", "{}\n", ""},
		{"test", "kind: alert-test\n", "f.yaml:1: tests: none: want at least one"},
		{"test", "- 1\n", "want fields of an alert-test"},
	} {
		if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		status, out, errs := runCommand(t, c.command, name)
		if (status == 0) != (c.want == "") || !strings.Contains(errs, c.want) {
			t.Errorf("%s %q: %d %s%s", c.command, c.text, status, out, errs)
		}
	}
}

// TestTwice has both lines of an object that a file has twice.
func TestTwice(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f.yaml")
	one := "apiVersion: openslo/v1\nkind: Service\nmetadata: {name: web}\nspec: {}\n"
	if err := os.WriteFile(name, []byte("# twice\n"+one+"---\n"+one), 0o600); err != nil {
		t.Fatal(err)
	}
	want := name + ":7: Service web: want each once; it is in " + name + ":2 too"
	if status, _, errs := runCommand(t, "check", name); status != 1 || !strings.Contains(errs, want) {
		t.Errorf("%d %s, want %s", status, errs, want)
	}
}

// TestInternalAddresses has the check say which addresses would be refused at each
// try.
func TestInternalAddresses(t *testing.T) {
	c := testConfig(t.TempDir())
	c.WebhookAllow = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	own := &c.Tenants[0]
	for i, url := range []string{"http://10.1.2.3/hook", "https://deploy.example/hook", "http://169.254.169.254/latest", "https://[::ffff:10.0.0.1]:8443/x", "https://LocalHost/x"} {
		own.Webhooks = append(own.Webhooks, webhookConfig{Name: strconv.Itoa(i), URL: url, Secret: webhookSecret})
	}
	own.Tools = []toolConfig{{Name: "gitlab", Kind: "gitlab", URL: "https://192.168.1.1", Project: "acme/shop", Flag: "f", Token: "t"}}
	own.Alerts = []alertConfig{{Name: "am", Kind: "alertmanager", URL: "http://127.0.0.1:9093"}, {Name: "mail", Kind: "email", SMTP: "[fd00::1]:587", Security: "starttls", From: "serin@shop.example", To: []string{"ops@shop.example"}}}
	own.Protections = []protectionConfig{{Name: "github", URL: "http://10.2.0.1"}}
	_, err := c.targets()
	_, more := c.alertTargets()
	_, still := c.protections()
	told := fmt.Sprint(err, "\n", more, "\n", still)
	for _, want := range []string{"webhooks[2].url: 169.254.169.254: internal address: want", "webhooks[3].url: ::ffff:10.0.0.1: internal", "webhooks[4].url: 127.0.0.1: internal", "tools[0].url: 192.168.1.1: internal", "alerts[0].url: 127.0.0.1: internal", "alerts[1].smtp: fd00::1: internal", "protections[0].url: 10.2.0.1: internal"} {
		if !strings.Contains(told, want) {
			t.Errorf("no %q in\n%s", want, told)
		}
	}
	if n := strings.Count(told, "internal address"); n != 7 {
		t.Errorf("%d faults, want 7:\n%s", n, told)
	}
}
