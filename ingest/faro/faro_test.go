package faro

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

// decode decodes a body of one session, with more of its meta and its items.
func decode(t *testing.T, meta, items string) dialect.Result {
	t.Helper()
	res, err := Decode(&dialect.Request{Header: map[string]string{}, Now: 1795538530_000,
		Body: []byte(`{"meta":{"app":{"name":"shop","version":"1"},"session":{"id":"session-1"}` + meta + `},` + items + `}`)})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func told(res dialect.Result) string {
	var list []string
	for i := range res.Beacons {
		for j := range res.Beacons[i].Events {
			e := &res.Beacons[i].Events[j]
			list = append(list, fmt.Sprintf("%s %s %g failed=%t", e.Kind, e.Name, e.Value, e.Flag("failed")))
		}
	}
	return strings.Join(list, "; ")
}

// TestTracedRequests: the mobile SDKs tell of a request by an event of this name,
// and those for browsers by a span and the event.
func TestTracedRequests(t *testing.T) {
	traced := func(status, more string) string {
		return `{"name":"faro.tracing.fetch","timestamp":"2026-11-24T13:22:09.000Z","attributes":{"http.url":"https://api.example/pay?x=1","http.method":"POST","http.status_code":"` +
			status + `","duration_ns":"12500000"}` + more + `}`
	}
	span := func(id string) string {
		return `"traces":{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"8a3c60f7d188f8fa79d48a391a778fa6","spanId":"` + id + `","name":"HTTP POST","kind":3,` +
			`"startTimeUnixNano":"1795538529000000000","endTimeUnixNano":"1795538529012500000","attributes":[{"key":"http.method","value":{"stringValue":"POST"}},` +
			`{"key":"http.url","value":{"stringValue":"https://api.example/pay?x=1"}},{"key":"http.status_code","value":{"intValue":200}}]}]}]}]}`
	}
	const one, failed = "request POST /pay 12.5 failed=false", "request POST /pay 12.5 failed=true"
	for _, c := range []struct{ name, items, want string }{
		{"an event", `"events":[` + traced("200", "") + `]`, one},
		{"an event without an answer", `"events":[` + traced("0", "") + `]`, failed},
		{"an event of an error", `"events":[` + traced("503", "") + `]`, failed},
		{"an event and its span", `"events":[` + traced("200", `,"trace":{"trace_id":"8a3c60f7d188f8fa79d48a391a778fa6","span_id":"1000000000000001"}`) + `],` + span("1000000000000001"), one},
		{"an event and another span", `"events":[` + traced("200", `,"trace":{"trace_id":"8a3c60f7d188f8fa79d48a391a778fa6","span_id":"1000000000000001"}`) + `],` + span("1000000000000002"), one + "; " + one},
		{"a span", span("1000000000000001"), one},
		{"an event of another span", `"events":[{"name":"faro.tracing.document-load","attributes":{"x":"1"}}]`, "event faro.tracing.document-load 0 failed=false"},
	} {
		if got := told(decode(t, "", c.items)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestANR: each mobile SDK has a way of its own to say that the app hung.
func TestANR(t *testing.T) {
	for _, x := range []string{
		`{"type":"ANR","value":"Input dispatching timed out","fatal":true,"context":{"mechanism":"anr","duration":"5003"}}`,
		`{"type":"flutter_error","value":"ANR (Application Not Responding)","fatal":true,"context":{"stacktrace":"..."}}`,
		`{"type":"crash","value":"ANR: user request after error","fatal":true}`,
	} {
		if got := told(decode(t, "", `"exceptions":[`+x+`]`)); !strings.HasPrefix(got, "anr ") {
			t.Errorf("%s is %q, want an ANR", x, got)
		}
	}
	if got := told(decode(t, "", `"exceptions":[{"type":"flutter_error","value":"ANR (Application Not Responding)"}]`)); !strings.HasPrefix(got, "error ") {
		t.Errorf("what the app says itself is %q, want an error", got)
	}
}

// TestWho: what meta says of the user, the traffic and the device.
func TestWho(t *testing.T) {
	const log = `"logs":[{"message":"x"}]`
	if b := decode(t, `,"k6":{"isK6Browser":true}`, log).Beacons[0]; b.Tenancy != event.Synthetic {
		t.Errorf("a browser of k6 is %s", b.Tenancy)
	}
	if b := decode(t, `,"user":{"hash":"9f2c"}`, log).Beacons[0]; b.User == "" {
		t.Error("a hashed user is nobody")
	}
	b := decode(t, `,"os":{"name":"iPadOS","version":"18.1"},"device":{"model_name":"iPad"}`, log).Beacons[0]
	if b.Ctx.Platform != "ios" || b.Ctx.Device != "mobile" || b.Ctx.OS != "iPadOS 18.1" {
		t.Errorf("an iPad is %+v", b.Ctx)
	}
}

// TestNoItems: what is no item is rejected and costs the others nothing, and a body
// of another protocol is refused.
func TestNoItems(t *testing.T) {
	res := decode(t, "", `"events":[5,{"name":"x"},null],"logs":{"message":"x"},"exceptions":null`)
	if got := told(res); got != "event x 0 failed=false" || len(res.Rejected) != 3 {
		t.Errorf("%q, %+v", got, res.Rejected)
	}
	for _, body := range []string{`{}`, `{"resourceLogs":[]}`, `{"meta":5}`} {
		if _, err := Decode(&dialect.Request{Header: map[string]string{}, Body: []byte(body)}); !errors.Is(err, dialect.ErrMalformed) {
			t.Errorf("%s: %v", body, err)
		}
	}
}
