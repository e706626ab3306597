package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestObjectivesOverHTTP has a server count sessions for an objective of its
// configuration, and asks for all that is to be had of it.
func TestObjectivesOverHTTP(t *testing.T) {
	c := testConfig(t.TempDir())
	c.Tenants[0].Objectives = "../../analysis/openslo/testdata/shop.yaml"
	s, stop := startServer(t, c)
	// What came in the last minute counts when it is over; these came before.
	then := time.Now().Add(-3 * time.Minute).UnixMilli()
	for i := range 40 {
		failed := ""
		if i%4 == 0 {
			failed = fmt.Sprintf(`,{"k":"error","n":"TypeError","t":%d}`, then)
		}
		body := fmt.Sprintf(`{"v":1,"sdk":"test/1","app":"shop-web","release":"2.4.%d","session":"session-%d","seq":0,"sent":%d,"ctx":{"platform":"web"},"events":[{"k":"view","n":"/","t":%d}%s]}`, i%2, i, time.Now().UnixMilli(), then, failed)
		res, err := http.Post(s.url()+"/v1/beacons?key="+ownKey, "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusAccepted {
			t.Fatalf("%d %s %v", res.StatusCode, text, err)
		}
	}
	args := func(words ...string) []string {
		return append(append([]string{"slo"}, words...), "--server", s.url(), "--token", ownViewer)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, out, errs := runCommand(t, args("who", "checkout-errors")...)
		if strings.Contains(out, "10 of 40 sessions are bad") && strings.Contains(out, "2.4.0") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s%s", out, errs)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := call(t.Context(), "POST", s.url()+"/v1/slos/checkout-errors/exception", ownToken, strings.NewReader(`{"why":"the repair","until":"2000-01-01T00:00:00Z"}`)); err == nil || !strings.Contains(err.Error(), "400") || !strings.Contains(err.Error(), "until: 2000-01-01") {
		t.Errorf("an exception that is over: %v", err)
	}
	// An exception has the objective evaluated at once.
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	answer, err := call(t.Context(), "POST", s.url()+"/v1/slos/checkout-errors/exception", ownToken, strings.NewReader(`{"why":"the repair","until":"`+until+`"}`))
	if err != nil || !strings.Contains(string(answer), `"action":"allow"`) || !strings.Contains(string(answer), `"who":"ci"`) {
		t.Errorf("%s %v", answer, err)
	}
	if status, out, errs := runCommand(t, args("gate", "checkout-errors")...); status != 0 || !strings.HasPrefix(out, "allow\n") {
		t.Errorf("gate: %d %s%s", status, out, errs)
	}
	if status, out, errs := runCommand(t, args("status")...); status != 0 || !strings.Contains(out, "10 of 40") || !strings.Contains(out, "checkout-lcp") {
		t.Errorf("status: %d %s%s", status, out, errs)
	}
	if status, _, errs := runCommand(t, args("gate", "absent")...); status != 1 || !strings.Contains(errs, "404") {
		t.Errorf("gate of none: %d %s", status, errs)
	}
	if raw, err := get(t.Context(), s.url()+"/v1/slos", foreignToken); err != nil || string(raw) != "{\"slos\":[]}\n" {
		t.Errorf("another tenant: %s %v", raw, err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	status, out, errs := runCommand(t, "backtest", "--segments", c.path("segments"), "--tenant", "own", "--slo", "checkout-errors")
	if status != 0 || !strings.Contains(out, " 0 differ") {
		t.Errorf("backtest: %d %s%s", status, out, errs)
	}
}
