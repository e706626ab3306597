package beacon

import (
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"serin.dev/serin/internal/event"
)

// hand is what testdata/hand/full.json says.
var hand = event.Beacon{
	SDK: "serin-js/1.0.0", App: "shop-web", Release: "2.4.1", Tenancy: event.Synthetic,
	Session: "01J9ZK3W8Q5T7N2M", User: "h:9f2c", Seq: math.MaxUint32, Sent: 1764000000000,
	Arms: []event.Arm{{Change: "release/2.4.1", Variant: "canary"}, {Change: "flag/ü", Variant: "on"}},
	Ctx: event.Context{Platform: "web", OS: "Android 15", Browser: "Chrome 142", Device: "mobile",
		Network: "4g", Page: "/checkout/größe"},
	Events: []event.One{
		{Kind: event.Exposure, Name: "release/2.4.1", Time: 1764000000000, Attrs: []event.Attr{{Key: "arm", Text: "canary"}}},
		{Kind: event.Vital, Name: "LCP", Time: 1764000000000, Value: 2310.5, HasVal: true, Unit: "ms", Attrs: []event.Attr{{Key: "rating", Text: "good"}}},
		{Kind: event.Vital, Name: "CLS", Time: 1764000000000, Value: 0.0215, HasVal: true},
		{Kind: event.Error, Name: "TypeError", Time: 1764000000100, Message: "x is \"undefined\" 😀", Stack: "at f (/a.js:1:2)\n\tat g\\h",
			Attrs: []event.Attr{{Key: "handled", Text: "false"}, {Key: "line", Number: 12, Num: true}}},
		{Kind: event.Request, Name: "GET /api/cart", Time: 0, Unit: "ms", Value: 0, HasVal: true},
		{Kind: event.Metric, Name: "cart.total", Time: 1764000000200, Value: -1e15, HasVal: true, Unit: "eur"},
		{Kind: event.Start, Name: "cold", Time: 1764000000300, Unit: "ms"},
	},
	Drops: []event.Dropped{{Cause: "vital/sampled", Count: 3}, {Cause: "error/queue_overflow", Count: 1}},
}

// same compares a beacon with hand, event by event so that a failure is read
// easily.
func same(t *testing.T, b event.Beacon) {
	t.Helper()
	for i := range min(len(hand.Events), len(b.Events)) {
		if !reflect.DeepEqual(b.Events[i], hand.Events[i]) {
			t.Errorf("event %d is\n%+v, want\n%+v", i, b.Events[i], hand.Events[i])
		}
	}
	if !reflect.DeepEqual(b, hand) {
		t.Errorf("the beacon is\n%+v, want\n%+v", b, hand)
	}
}

func TestDecode(t *testing.T) {
	body := read(t, "testdata/hand/full.json")
	var d Decoder
	var b event.Beacon
	// The second time finds every text in the table, and memory to reuse.
	for range 2 {
		rejected, err := d.Decode(body, &b)
		if err != nil || len(rejected) > 0 {
			t.Fatalf("error %v, rejected %v", err, rejected)
		}
		same(t, b)
	}
	// A browser may send a beacon of the envelope alone, to say that the session lives.
	if rejected, err := d.Decode(read(t, "testdata/hand/min.json"), &b); err != nil || rejected != nil || len(b.Events) != 0 || len(b.Arms) != 0 || b.Tenancy != event.Production {
		t.Errorf("min.json: %+v, rejected %v, error %v", b, rejected, err)
	}
}

// TestNoAlias overwrites the body, as the edge does with the next request, and
// decodes another one, as a decoder does: texts stay. Lists of attributes are the decoder's.
func TestNoAlias(t *testing.T) {
	body := read(t, "testdata/hand/full.json")
	var d Decoder
	var b, other event.Beacon
	if _, err := d.Decode(body, &b); err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = '#'
	}
	for i := range b.Events {
		b.Events[i].Attrs = slices.Clone(b.Events[i].Attrs)
	}
	for i := range 500 {
		next := strings.NewReplacer("serin-js", "s"+strconv.Itoa(i), "canary", "c"+strconv.Itoa(i), "undefined", strings.Repeat("u", i)).
			Replace(string(read(t, "testdata/hand/full.json")))
		if _, err := d.Decode([]byte(next), &other); err != nil {
			t.Fatal(err)
		}
	}
	same(t, b)
}

func TestIndexes(t *testing.T) {
	var d Decoder
	var b event.Beacon
	rejected, err := d.Decode([]byte(events(`1`, good, `{"k":"no","n":"x","t":1}`, `{"k":"event","n":"second","t":1,"a":{"x":1}}`, `null`)), &b)
	if err != nil {
		t.Fatal(err)
	}
	var at []int
	for _, r := range rejected {
		at = append(at, r.Index)
	}
	if !slices.Equal(at, []int{0, 2, 4}) {
		t.Errorf("rejected events %v, want 0, 2 and 4: indexes count the client's events", at)
	}
	if len(b.Events) != 2 || b.Events[0].Name != "ok" || b.Events[1].Name != "second" {
		t.Errorf("kept %+v", b.Events)
	}
}

// TestKept has what is odd and still allowed.
func TestKept(t *testing.T) {
	long := strings.Repeat("x", event.MaxName)
	for _, c := range []struct {
		name, body string
		ok         func(b *event.Beacon) bool
	}{
		{"unknown keys of any type", plus(`"x":[{"y":[null,true,1.5e-7,"z"]}],"":0`), func(b *event.Beacon) bool { return b.App == "shop-web" }},
		{"unknown key twice", plus(`"x":1,"x":2`), func(b *event.Beacon) bool { return true }},
		{"unknown number beyond all bounds", plus(`"x":1e999999999`), func(b *event.Beacon) bool { return true }},
		{"8 deep", plus(`"x":[[[[[[[]]]]]]]`), func(b *event.Beacon) bool { return true }},
		{"white space everywhere", " {\n\"v\" :\t1 , \"app\":\"a\",\"release\":\"1\",\"session\":\"aaaaaaaa\",\"seq\":0,\"sent\":0 ,\"events\" : [ ] , \"ctx\" : { } }\r\n", func(b *event.Beacon) bool { return b.App == "a" }},
		{"escaped keys", swap(`"app"`, `"\u0061\u0070p"`), func(b *event.Beacon) bool { return b.App == "shop-web" }},
		{"texts at their limit", swap(`"2.4.1"`, `"`+long+`"`), func(b *event.Beacon) bool { return string(b.Release) == long }},
		{"escapes count as what they say", swap(`"2.4.1"`, `"`+strings.Repeat(`\u0078`, event.MaxName)+`"`), func(b *event.Beacon) bool { return string(b.Release) == long }},
		{"every escape", plus(`"user":"\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00\ufffd"`), func(b *event.Beacon) bool { return b.User == "\"\\/\b\f\n\r\té😀\ufffd" }},
		{"country is the edge's to say", plus(`"ctx":{"country":"DE"}`), func(b *event.Beacon) bool { return b.Ctx.Country == "" }},
		{"country of the wrong type", plus(`"ctx":{"country":49}`), func(b *event.Beacon) bool { return b.Ctx.Country == "" }},
		{"page with a query", plus(`"ctx":{"page":"/a?token=secret#b"}`), func(b *event.Beacon) bool { return b.Ctx.Page == "/a" }},
		{"page with a fragment", plus(`"ctx":{"page":"/a#b?c"}`), func(b *event.Beacon) bool { return b.Ctx.Page == "/a" }},
		{"page with an escaped question mark", plus(`"ctx":{"page":"/a\u003ftoken=secret"}`), func(b *event.Beacon) bool { return b.Ctx.Page == "/a" }},
		{"page with a long query", plus(`"ctx":{"page":"/a?` + strings.Repeat(`\n`, 1000) + `"}`), func(b *event.Beacon) bool { return b.Ctx.Page == "/a" }},
		{"200 events", plus(`"events":[` + repeat(event.MaxEvents, func(int) string { return good }) + `]`), func(b *event.Beacon) bool { return len(b.Events) == event.MaxEvents }},
		{"32 attributes", events(`{"k":"event","n":"x","t":1,"a":{` + repeat(event.MaxAttrs, func(i int) string { return `"a` + strconv.Itoa(i) + `":1` }) + `}}`),
			func(b *event.Beacon) bool { return len(b.Events[0].Attrs) == event.MaxAttrs }},
		{"null attributes are dropped", events(`{"k":"event","n":"x","t":1,"a":{"a":null,"b":1,"c":null,"d":"","e":true}}`), func(b *event.Beacon) bool {
			return slices.Equal(b.Events[0].Attrs, []event.Attr{{Key: "b", Number: 1, Num: true}, {Key: "d"}, {Key: "e", Text: "true"}})
		}},
		{"only null attributes", events(`{"k":"event","n":"x","t":1,"a":{"a":null}}`), func(b *event.Beacon) bool { return b.Events[0].Attrs == nil }},
		{"unit that is said", events(`{"k":"vital","n":"LCP","t":1,"v":5,"u":"ms"}`), func(b *event.Beacon) bool { return b.Events[0].Unit == "ms" }},
		{"seq minus zero", swap(`"seq":7`, `"seq":-0`), func(b *event.Beacon) bool { return b.Seq == 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d Decoder
			var b event.Beacon
			rejected, err := d.Decode([]byte(c.body), &b)
			if err != nil || len(rejected) > 0 {
				t.Fatalf("error %v, rejected %v", err, rejected)
			}
			if !c.ok(&b) {
				t.Errorf("decoded %+v", b)
			}
		})
	}
}

// TestFloat holds both ways to a float64 against strconv.
func TestFloat(t *testing.T) {
	for _, text := range []string{"0", "-0", "1", "0.1", "-0.1", "2310.5", "123456789012345", "0.00000000000001", "999999999999999",
		"1234567890.12345", "0.30000000000000004", "1e15", "1E-7", "-1.5e+3", "5e-324", "1e-999", "9007199254740993", "1e999", "-1e999",
		"0.1000000000000000055511151231257827021181583404541015625"} {
		want, _ := strconv.ParseFloat(text, 64)
		if got := float([]byte(text)); math.Float64bits(got) != math.Float64bits(want) {
			t.Errorf("float(%s) is %v, want %v", text, got, want)
		}
	}
}
