package interop

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"testing"
	"time"

	pd "github.com/PagerDuty/go-pagerduty"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/alerting/pagerduty"
	"serin.dev/serin/alerting/webhook"
)

// TestPagerDuty compares what is sent with what PagerDuty's own client sends: the
// same fields of the same types.
func TestPagerDuty(t *testing.T) {
	var bodies [][]byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v2/enqueue" {
			t.Errorf("%s: %v", r.URL, err)
		}
		bodies = append(bodies, raw)
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, `{"status":"success","message":"Event processed","dedup_key":"k"}`)
	}))
	defer server.Close()
	const key = "0123456789abcdef0123456789abcdef"
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	target := pagerduty.Target{URL: server.URL + "/v2/enqueue", Key: key, Client: server.Client()}
	client := pd.NewClient("", pd.WithV2EventsAPIEndpoint(server.URL))
	for _, event := range []alert.Event{alert.Opened, alert.Resolved} {
		bodies = nil
		body, err := pagerduty.Body(&alert.Notification{ID: "alert_1", Items: []alert.Item{{Event: event, Key: alert.Key{Tenant: "shop", SLO: "checkout"}, Dedup: "d", Severity: "page", Service: "web", App: "shop-web", Since: at}}})
		if err != nil {
			t.Fatal(err)
		}
		if a, err := target.Tell(t.Context(), webhook.Message{Body: body}); err != nil || a.Status != http.StatusAccepted {
			t.Fatalf("%+v, %v", a, err)
		}
		var ours pd.V2Event
		if err := json.Unmarshal(bodies[0], &ours); err != nil {
			t.Fatal(err)
		}
		if _, err := client.ManageEventWithContext(t.Context(), &ours); err != nil {
			t.Fatal(err)
		}
		var a, b map[string]any
		if json.Unmarshal(bodies[0], &a) != nil || json.Unmarshal(bodies[1], &b) != nil {
			t.Fatal("not JSON")
		}
		if !reflect.DeepEqual(a, b) {
			t.Errorf("sent\n%s, PagerDuty's client sends\n%s", bodies[0], bodies[1])
		}
		if !slices.Contains([]string{"trigger", "resolve"}, ours.Action) || ours.RoutingKey != key {
			t.Errorf("%+v", ours)
		}
	}
}
