package pagerduty

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/alerting/webhook"
)

const key = "0123456789abcdef0123456789abcdef"

func notification(events ...alert.Event) *alert.Notification {
	n := &alert.Notification{ID: "alert_1", Tenant: "shop", Target: "pager", SLO: "checkout"}
	for _, e := range events {
		n.Items = append(n.Items, alert.Item{Event: e, Key: alert.Key{Tenant: "shop", SLO: "checkout", Cohort: strings.Repeat("ä", 2000)}, Dedup: strings.Repeat("d", 32), Severity: "page", Service: "web",
			Since: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)})
	}
	return n
}

// read is what an events API requires, by PagerDuty's documentation.
type read struct {
	Key     string `json:"routing_key"`
	Action  string `json:"event_action"`
	Dedup   string `json:"dedup_key"`
	Payload *struct {
		Summary, Source, Severity string
		Timestamp                 time.Time
	}
}

func TestTell(t *testing.T) {
	var got read
	status := http.StatusAccepted
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		got = read{}
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
		io.WriteString(w, "the key "+got.Key+" is off")
	}))
	defer server.Close()
	target := Target{URL: server.URL, Key: key, Client: server.Client()}
	if err := target.Check(); err != nil {
		t.Error(err)
	}
	tell := func(events ...alert.Event) error {
		t.Helper()
		body, err := Body(notification(events...))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(body), key) {
			t.Error("the key is in the outbox")
		}
		a, err := target.Tell(t.Context(), webhook.Message{Body: body})
		if a.Status != status {
			t.Errorf("status %d, want %d", a.Status, status)
		}
		return err
	}
	if err := tell(alert.Opened); err != nil || got.Key != key || got.Action != "trigger" || len(got.Dedup) > 255 || got.Payload.Severity != "critical" || len([]rune(got.Payload.Summary)) > 1024 || got.Payload.Source == "" {
		t.Errorf("%v: %+v", err, got)
	}
	opened := got.Dedup
	if err := tell(alert.Resolved); err != nil || got.Action != "resolve" || got.Dedup != opened || got.Payload != nil {
		t.Errorf("%v: %+v", err, got)
	}
	if err := tell(alert.Resolved, alert.Opened); err != nil || got.Action != "trigger" {
		t.Errorf("one that is open again: %v: %+v", err, got)
	}
	for s, rejected := range map[int]bool{400: true, 403: true, 429: false, 500: false} {
		status = s
		err := tell(alert.Opened)
		if errors.Is(err, webhook.ErrRejected) != rejected || err != nil && strings.Contains(err.Error(), key) {
			t.Errorf("%d: %v", s, err)
		}
	}
	for _, bad := range []Target{{}, {Key: key[1:]}, {Key: key, URL: "x"}} {
		if err := bad.Check(); err == nil || bad.Key != "" && strings.Contains(err.Error(), bad.Key) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := Body(notification()); err == nil {
		t.Error("a message without items was written")
	}
}
