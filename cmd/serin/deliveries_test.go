package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/alerting/webhook"
)

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// got is a message that a receiver took.
type got struct {
	path, id, contentType string
	body                  map[string]any
}

// hookReceiver verifies what it is sent, and hands it on.
func hookReceiver(t *testing.T) (*httptest.Server, chan got) {
	t.Helper()
	secret, err := webhook.ParseSecret(webhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	c := make(chan got, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err == nil {
			err = webhook.Verify(secret, r.Header, raw)
		}
		m := got{path: r.URL.Path, id: r.Header.Get("webhook-id"), contentType: r.Header.Get("Content-Type")}
		if err == nil {
			err = json.Unmarshal(raw, &m.body)
		}
		if err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c <- m
	}))
	t.Cleanup(s.Close)
	return s, c
}

func TestDeliveries(t *testing.T) {
	hook, took := hookReceiver(t)
	c := testConfig(t.TempDir())
	c.WebhookAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, f := range []string{"standard", "cloudevents", "cdevents"} {
		c.Tenants[0].Webhooks = append(c.Tenants[0].Webhooks, webhookConfig{Name: f, URL: hook.URL + "/" + f, Secret: webhookSecret, Format: f})
	}
	s, _ := startServer(t, c)
	createRollout(t, s)
	override(t, s, "rollback")
	first := map[string]got{} // of each target, the message on the rollback
	for deadline := time.After(20 * time.Second); len(first) < 3; {
		select {
		case m := <-took:
			if strings.Contains(text(t, m.body), `"decision":"rollback"`) {
				first[m.path] = m
			}
		case <-deadline:
			t.Fatalf("only %v came", first)
		}
	}
	ids := map[string]bool{}
	for path, m := range first {
		ids[m.id] = true
		if strings.Contains(m.id, ".") {
			t.Errorf("%s: the id %q has a dot", path, m.id)
		}
	}
	if len(ids) != 3 {
		t.Errorf("ids %v: want another for each target", ids)
	}
	ce := first["/cloudevents"]
	if ce.contentType != "application/cloudevents+json; charset=utf-8" || ce.body["type"] != "dev.serin.verdict.rollback" || ce.body["specversion"] != "1.0" || ce.body["id"] != ce.id {
		t.Errorf("CloudEvents: %s %v", ce.contentType, ce.body)
	}
	context, _ := first["/cdevents"].body["context"].(map[string]any)
	if context["type"] != "dev.cdeventsx.serin-canaryverdict.issued.0.1.0" || context["specversion"] != "0.5.1" {
		t.Errorf("CDEvents: %v", first["/cdevents"].body)
	}

	t.Setenv("SERIN_SERVER", s.url())
	t.Setenv("SERIN_TOKEN", ownToken)
	id := first["/standard"].id
	for i := 0; ; i++ {
		status, stdout, stderr := runCommand(t, "deliveries", "list")
		if status != 0 {
			t.Fatalf("%d %s", status, stderr)
		}
		if strings.Contains(stdout, id) && strings.Count(stdout, "delivered") >= 3 && !strings.Contains(stdout, waiting) {
			break
		}
		if i == 100 {
			t.Fatalf("the list is\n%s", stdout)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if status, _, _ := runCommand(t, "deliveries", "replay", "verdict_none"); status != 1 {
		t.Errorf("the replay of a message that is not there: exit status %d", status)
	}
	if status, stdout, stderr := runCommand(t, "deliveries", "replay", id); status != 0 {
		t.Fatalf("%d %s%s", status, stdout, stderr)
	}
	select {
	case m := <-took:
		if m.id != id || m.path != "/standard" {
			t.Errorf("told again: %s to %s, want %s under the same name", m.id, m.path, id)
		}
	case <-time.After(20 * time.Second):
		t.Error("it was not told again")
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
