package report

import (
	"net/url"
	"testing"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

// TestBlocked: a violation says whose resource was blocked, and not with what query.
func TestBlocked(t *testing.T) {
	for body, want := range map[string]string{
		`[{"age":5,"type":"csp-violation","url":"https://shop.example/","body":{"effectiveDirective":"script-src-elem","blockedURL":"https://evil.example/x.js?u=ann#y"}}]`: "https://evil.example/x.js",
		`{"csp-report":{"document-uri":"https://shop.example/","violated-directive":"script-src","blocked-uri":"inline"}}`:                                                  "inline",
	} {
		res, err := DecodeReports(&dialect.Request{Target: &url.URL{RawQuery: "app=shop&release=1"}, Header: map[string]string{}, Body: []byte(body), Now: 1795538530_000})
		if err != nil || res.Events() != 1 {
			t.Fatalf("%+v, %v", res, err)
		}
		for _, a := range res.Beacons[0].Events[0].Attrs {
			if a.Key == "blocked" && a.Text != want {
				t.Errorf("blocked is %q, want %q", a.Text, want)
			}
		}
	}
}

// TestNetworkErrors tells what the network failed at from what a server answered and
// what somebody left.
func TestNetworkErrors(t *testing.T) {
	for body, want := range map[string]event.Kind{
		`{"type":"tcp.timed_out","phase":"connection"}`:                   event.NetFail,
		`{"type":"http.error","status_code":503}`:                         event.NetFail,
		`{"type":"http.error","status_code":404}`:                         event.Event,
		`{"type":"abandoned","phase":"application","elapsed_time":45000}`: event.Event,
	} {
		report := `[{"age":5,"type":"network-error","url":"https://shop.example/","body":` + body + `}]`
		res, err := DecodeReports(&dialect.Request{Target: &url.URL{RawQuery: "app=shop&release=1"}, Header: map[string]string{}, Body: []byte(report), Now: 1795538530_000})
		if err != nil || res.Events() != 1 {
			t.Fatalf("%+v, %v", res, err)
		}
		if got := res.Beacons[0].Events[0].Kind; got != want {
			t.Errorf("%s is a %v, want %v", body, got, want)
		}
	}
}
