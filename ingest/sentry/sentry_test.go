package sentry

import (
	"fmt"
	"strings"
	"testing"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

// decode decodes an envelope of one item.
func decode(t *testing.T, kind, payload string) dialect.Result {
	t.Helper()
	res, err := Decode(&dialect.Request{Header: map[string]string{}, Now: 1795538530_000, Body: []byte("{}\n" + `{"type":"` + kind + `"}` + "\n" + payload)})
	if err != nil || len(res.Rejected) > 0 {
		t.Fatalf("%+v, %v", res.Rejected, err)
	}
	return res
}

// TestHandled: an error is uncaught where its mechanism says so.
func TestHandled(t *testing.T) {
	for mechanism, want := range map[string]bool{
		`{"type":"onerror","handled":false}`: false, `{"type":"generic","handled":true}`: true, `{"type":"generic","handled":null}`: true, `{"type":"generic"}`: true, `null`: true,
	} {
		res := decode(t, "event", `{"release":"shop@1","event_id":"20063987ea354ed1a7c5f2c2e5c3dbe4","exception":{"values":[{"type":"E","value":"x","mechanism":`+mechanism+`}]}}`)
		if e := res.Beacons[0].Events[0]; e.Flag("handled") != want {
			t.Errorf("%s is handled %t, want %t", mechanism, e.Flag("handled"), want)
		}
	}
}

// TestStandaloneSpan: a span that is an item of its own names its environment and
// page itself, and need not be a vital.
func TestStandaloneSpan(t *testing.T) {
	const data = `"data":{"release":"shop@1","environment":"staging","transaction":"/cart","user_agent.original":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36","http.response.status_code":503}`
	const span = `"trace_id":"cd73f531b6c846f29710f45f99bd48cb","start_timestamp":1795538498,"timestamp":1795538498.5,` + data
	for want, more := range map[string]string{
		"vital INP 72":          `"op":"ui.interaction.click","measurements":{"inp":{"value":72,"unit":"millisecond"}}`,
		"request POST /pay 500": `"op":"http.client","description":"POST https://api.example/pay"`,
		"resource /app.js 500":  `"op":"resource.script","description":"https://cdn.example/app.js"`,
		"longtask longtask 500": `"op":"ui.long-animation-frame"`,
		"vital CLS 0.25":        `"op":"ui.webvital.cls","measurements":{"cls":{"value":0.25,"unit":""}}`,
		"start cold 1500":       `"op":"app.start","measurements":{"app_start_cold":{"value":1.5,"unit":"second"}}`,
	} {
		b := decode(t, "span", "{"+span+","+more+"}").Beacons[0]
		e := b.Events[0]
		if got := fmt.Sprintf("%s %s %g", e.Kind, e.Name, e.Value); got != want || b.Ctx.Env != "staging" || b.Ctx.Page != "/cart" || b.Ctx.Browser != "Chrome 156" || b.App != "shop" {
			t.Errorf("got %q of %s in %+v, want %q", got, b.App, b.Ctx, want)
		}
	}
}

// TestFirstOfSeven: the first SDKs of version 7 have a request's status in a tag.
func TestFirstOfSeven(t *testing.T) {
	res := decode(t, "transaction", `{"release":"shop@1","contexts":{"trace":{"op":"pageload","trace_id":"cd73f531b6c846f29710f45f99bd48cb"}},"transaction":"/","start_timestamp":1795538498,"timestamp":1795538499,`+
		`"spans":[{"op":"http.client","description":"GET /api","status":"unavailable","start_timestamp":1795538498,"timestamp":1795538498.5,"data":{"method":"PUT","url":"/api","type":"fetch"},"tags":{"http.status_code":"503"}}]}`)
	if e := res.Beacons[0].Events[1]; e.Kind != event.Request || e.Name != "PUT /api" || !e.Flag("failed") {
		t.Errorf("%+v", e)
	}
}

// TestSpansAreCounted: no span is lost without being counted.
func TestSpansAreCounted(t *testing.T) {
	const n = maxSpans + 5
	v2 := decode(t, "span", `{"items":[`+strings.TrimSuffix(strings.Repeat(`{"attributes":{"sentry.release":{"value":"shop@1"}}},`, n), ",")+`]}`)
	v1 := decode(t, "transaction", `{"release":"shop@1","contexts":{"trace":{"op":"pageload","trace_id":"cd73f531b6c846f29710f45f99bd48cb"}},"spans":[`+strings.TrimSuffix(strings.Repeat(`{},`, n), ",")+`]}`)
	if v2.Ignored["span"] != n || v1.Ignored["span"] != n {
		t.Errorf("of %d spans %d and %d were counted", n, v2.Ignored["span"], v1.Ignored["span"])
	}
}
