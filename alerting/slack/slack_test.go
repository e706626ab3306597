package slack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/alerting/webhook"
)

func notification(items int) *alert.Notification {
	n := &alert.Notification{ID: "alert_1", Tenant: "shop", Target: "chat", SLO: "checkout"}
	for i := range items {
		n.Items = append(n.Items, alert.Item{Event: alert.Opened, Key: alert.Key{Tenant: "shop", SLO: "checkout", Cohort: fmt.Sprint("2.4.", i)}, Severity: "page",
			Sentence: "<!channel> & more " + strings.Repeat("x", 4000)})
	}
	return n
}

func TestBody(t *testing.T) {
	for _, items := range []int{1, 49, 200} {
		body, err := Body(notification(items))
		if err != nil {
			t.Fatal(err)
		}
		var m struct {
			Text   string
			Blocks []struct {
				Type string
				Text struct{ Type, Text string }
			}
		}
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		if m.Text == "" || utf8.RuneCountInString(m.Text) > maxText || len(m.Blocks) > 50 || len(m.Blocks) < min(items, 50) {
			t.Errorf("%d items: %d blocks, a text of %d", items, len(m.Blocks), len(m.Text))
		}
		for _, b := range m.Blocks {
			if b.Type != "section" || b.Text.Type != "mrkdwn" || utf8.RuneCountInString(b.Text.Text) > maxSection {
				t.Errorf("block %.80v", b)
			}
			if strings.Contains(b.Text.Text, "<!channel>") {
				t.Error("a name can ping the channel")
			}
		}
	}
}

func TestTell(t *testing.T) {
	status := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if raw, _ := io.ReadAll(r.Body); string(raw) != "{}" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %v", raw, r.Header)
		}
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		fmt.Fprint(w, "no_service")
	}))
	target := Target{URL: server.URL + "/services/SECRET", Client: server.Client()}
	if err := target.Check(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		status int
		want   error
	}{{200, nil}, {429, nil}, {500, nil}, {404, webhook.ErrGone}, {410, webhook.ErrGone}, {400, webhook.ErrRejected}, {403, webhook.ErrRejected}} {
		status = c.status
		a, err := target.Tell(t.Context(), webhook.Message{Body: []byte("{}")})
		if a.Status != c.status || a.After != 7*time.Second || !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%d: %+v, %v, want %v", c.status, a, err, c.want)
		}
	}
	server.Close()
	if _, err := target.Tell(t.Context(), webhook.Message{Body: []byte("{}")}); err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("the error is %v: want one without the URL, which is a secret", err)
	}
	for _, bad := range []string{"", "hooks.slack.com/x", "https://hooks.slack.com", "ftp://x/y"} {
		if err := (&Target{URL: bad}).Check(); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}
