package elastic

import (
	"errors"
	"strings"
	"testing"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

const (
	meta2 = `{"metadata":{"service":{"name":"shop","version":"1","agent":{"name":"rum-js","version":"5.17.5"}}}}`
	meta3 = `{"m":{"se":{"n":"shop","ve":"1","a":{"n":"rum-js","ve":"5.17.5"}}}}`
)

func decode(t *testing.T, lines ...string) dialect.Result {
	t.Helper()
	res, err := Decode(&dialect.Request{Header: map[string]string{}, Now: 1795538530_000, Body: []byte(strings.Join(lines, "\n"))})
	if err != nil || len(res.Rejected) > 0 {
		t.Fatalf("%+v, %v", res.Rejected, err)
	}
	return res
}

// one returns the only event.
func one(t *testing.T, res dialect.Result) event.One {
	t.Helper()
	if res.Events() != 1 {
		t.Fatalf("%+v", res)
	}
	return res.Beacons[0].Events[0]
}

// TestInteraction: the transaction that tells INP lasts 1 ms longer than it was,
// which would fail an INP of 200 ms.
func TestInteraction(t *testing.T) {
	for name, lines := range map[string][]string{
		"version 2":     {meta2, `{"transaction":{"id":"t1","type":"page-exit","duration":201,"context":{"tags":{"inp_value":200},"page":{"url":"https://shop.example/a"}}}}`},
		"version 3":     {meta3, `{"x":{"id":"t1","t":"page-exit","d":201,"c":{"g":{"inp_value":200},"p":{"url":"https://shop.example/a"}}}}`},
		"without label": {meta3, `{"x":{"id":"t1","t":"page-exit","d":201,"c":{"p":{"url":"https://shop.example/a"}}}}`},
	} {
		if e := one(t, decode(t, lines...)); e.Name != "INP" || e.Value != 200 {
			t.Errorf("%s: %s %g, want an INP of 200", name, e.Name, e.Value)
		}
	}
}

// TestUncaught: what the global handler wrote, in the words of each browser, and
// what captureError did.
func TestUncaught(t *testing.T) {
	for _, c := range []struct {
		line, name string
		handled    bool
	}{
		{`{"error":{"id":"e","exception":{"message":"Uncaught ReferenceError: cart is not defined","type":"ReferenceError"}}}`, "ReferenceError", false}, // Chrome
		{`{"error":{"id":"e","exception":{"message":"ReferenceError: Can't find variable: cart","type":"ReferenceError"}}}`, "ReferenceError", false},    // Safari
		{`{"e":{"id":"e","ex":{"mg":"ReferenceError: cart is not defined"}}}`, "ReferenceError", false},                                                  // Firefox
		{`{"e":{"id":"e","ex":{"mg":"uncaught exception: 5"}}}`, "Error", false},                                                                         // Firefox
		{`{"e":{"id":"e","ex":{"mg":"Script error."}}}`, "Error", false},
		{`{"e":{"id":"e","ex":{"mg":"Unhandled promise rejection: TypeError: x"}}}`, "Error", false},
		{`{"error":{"id":"e","exception":{"message":"handled one","type":"RangeError"}}}`, "RangeError", true},
		{`{"e":{"id":"e","ex":{"mg":"payment: refused"}}}`, "Error", true},
	} {
		if e := one(t, decode(t, meta2, c.line)); e.Name != c.name || e.Flag("handled") != c.handled {
			t.Errorf("%s is a %s, handled %t; want a %s, %t", c.line, e.Name, e.Flag("handled"), c.name, c.handled)
		}
	}
}

// TestUser: version 3 shortens the keys of a user, too.
func TestUser(t *testing.T) {
	for _, u := range []string{`"un":"alice"`, `"em":"a@b.example"`, `"id":7`} {
		res := decode(t, meta3, `{"e":{"id":"e","ex":{"mg":"x"},"c":{"u":{`+u+`}}}}`)
		if res.Beacons[0].User == "" {
			t.Errorf("{%s} is nobody", u)
		}
	}
}

// TestCounted: transactions that are no events are counted.
func TestCounted(t *testing.T) {
	res := decode(t, meta3, `{"x":{"id":"t1","t":"http-request","d":5}}`, `{"x":{"id":"t2","t":"user-interaction","d":5}}`)
	if res.Ignored["transaction"] != 2 || res.Events() != 0 {
		t.Errorf("%+v", res)
	}
}

// TestSpanOfTransaction: in version 2 a span does not say on which page it was.
func TestSpanOfTransaction(t *testing.T) {
	res := decode(t, meta2, `{"transaction":{"id":"t1","type":"page-load","duration":5,"context":{"page":{"url":"https://shop.example/a"},"user":{"id":"u"}}}}`,
		`{"span":{"id":"s1","transaction_id":"t1","type":"external","duration":5,"context":{"http":{"url":"https://api.example/x","status_code":200}}}}`)
	if len(res.Beacons) != 1 || res.Events() != 2 || res.Beacons[0].Ctx.Page != "/a" {
		t.Errorf("%+v", res)
	}
}

// TestEmpty: a body of nothing is none of the protocol.
func TestEmpty(t *testing.T) {
	for _, body := range []string{"", " \n\n"} {
		if _, err := Decode(&dialect.Request{Header: map[string]string{}, Body: []byte(body)}); !errors.Is(err, dialect.ErrMalformed) {
			t.Errorf("%q: %v", body, err)
		}
	}
}
