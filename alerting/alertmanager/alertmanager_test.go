package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/analysis/verdict"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func item(event alert.Event) alert.Item {
	return alert.Item{Event: event, Key: alert.Key{Tenant: "shop", SLO: "checkout", Cohort: "2.4.1"}, Dedup: "d", Number: 3, Severity: "page", Service: "web", App: "shop-web",
		Since: now.Add(-time.Hour), OpenedAt: now.Add(-2 * time.Hour), ResolvedAt: now, Sentence: "it burns",
		Alerts: []alert.Alert{{Burn: verdict.Burn{Name: "page-1h", Severity: "page", Form: "burn", Long: "1h0m0s", Short: "5m0s", Threshold: 14.4, LongRate: 20, ShortRate: 30, Bad: 5, Total: 50}}}}
}

func TestAlerts(t *testing.T) {
	target := Target{Tenant: "shop", Labels: map[string]string{"cluster": "eu"}}
	all := target.Alerts([]alert.Item{item(alert.Opened), item(alert.Resolved)}, now)
	want := map[string]string{"alertname": BurnName, "tenant": "shop", "slo": "checkout", "cohort": "2.4.1", "severity": "page", "service": "web", "app": "shop-web", "cluster": "eu"}
	for i, a := range all {
		if fmt.Sprint(a.Labels) != fmt.Sprint(want) {
			t.Errorf("labels %v, want %v: they are the identity, the same for the beginning and the end", a.Labels, want)
		}
		if end := []time.Time{now.Add(Hold), now}[i]; !a.EndsAt.Equal(end) || !a.StartsAt.Equal(now.Add(-time.Hour)) {
			t.Errorf("from %v to %v, want the end %v", a.StartsAt, a.EndsAt, end)
		}
	}
	// What changes from evaluation to evaluation changes no label.
	other := item(alert.Opened)
	other.Alerts[0].LongRate, other.DataThrough, other.Number, other.Sentence = 99, now, 4, "it burns more"
	if got := target.Alerts([]alert.Item{other}, now)[0]; fmt.Sprint(got.Labels) != fmt.Sprint(want) {
		t.Errorf("labels %v after another evaluation", got.Labels)
	}
	if w := target.Watchdog(now, now); w.Labels["alertname"] != WatchdogName || !w.EndsAt.After(now) || w.Labels["cluster"] != "eu" {
		t.Errorf("watchdog %+v", w)
	}
	if len(target.Labels) != 1 {
		t.Error("the target's own labels were changed")
	}
}

func TestSend(t *testing.T) {
	status := http.StatusOK
	var sizes []int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var got []Alert
		raw, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(raw, &got); err != nil || r.URL.Path != "/am/api/v2/alerts" || r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %v %v", r.URL, r.Header, err)
		}
		sizes = append(sizes, len(got))
		w.WriteHeader(status)
	}))
	defer server.Close()
	target := Target{Tenant: "shop", URL: server.URL + "/am/", Token: "secret", Client: server.Client()}
	if err := target.Send(t.Context(), make([]Alert, 1100)); err != nil || !slices.Equal(sizes, []int{500, 500, 100}) {
		t.Errorf("sent %v, %v", sizes, err)
	}
	for _, c := range []struct {
		status   int
		rejected bool
	}{{400, true}, {500, false}, {429, false}, {302, false}} {
		status = c.status
		if err := target.Send(t.Context(), make([]Alert, 1)); err == nil || errors.Is(err, ErrRejected) != c.rejected {
			t.Errorf("%d: %v", c.status, err)
		}
	}
	// One request that is refused keeps the others from nothing.
	sizes, status = nil, http.StatusBadRequest
	if err := target.Send(t.Context(), make([]Alert, 1100)); !errors.Is(err, ErrRejected) || len(sizes) != 3 {
		t.Errorf("sent %v, %v", sizes, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := target.Send(ctx, make([]Alert, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestCheck(t *testing.T) {
	for want, target := range map[string]Target{
		"":                     {URL: "https://am.example/prefix", Labels: map[string]string{"cluster": "eu"}},
		"want https://HOST":    {URL: "am:9093"},
		"no user and password": {URL: "https://a:b@am"},
		"no query":             {URL: "https://am?x=1"},
		`labels: "severity"`:   {URL: "https://am", Labels: map[string]string{"severity": "x"}},
		`labels: "a-b"`:        {URL: "https://am", Labels: map[string]string{"a-b": "x"}},
		`labels: "9a"`:         {URL: "https://am", Labels: map[string]string{"9a": "x"}},
		`labels: "a": ""`:      {URL: "https://am", Labels: map[string]string{"a": ""}},
	} {
		err := target.Check()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", target, err, want)
		}
	}
}
