package report

import (
	"net/url"
	"testing"

	"serin.dev/serin/ingest/dialect"
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
