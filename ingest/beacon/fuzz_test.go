package beacon

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"serin.dev/serin/internal/event"
)

// FuzzDecode holds the decoder against encoding/json: what it takes is JSON,
// and says there what it says here. The reference knows nothing of Serin but
// the names of the keys.
func FuzzDecode(f *testing.F) {
	for _, dir := range []string{"hand", "sdk"} {
		paths, err := filepath.Glob(filepath.Join("testdata", dir, "*.json"))
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			body, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(body)
		}
	}
	for _, c := range refusals {
		if len(c.body) < 4096 {
			f.Add([]byte(c.body))
		}
	}
	for _, c := range rejections {
		if body := events(good, c.body); len(body) < 4096 {
			f.Add([]byte(body))
		}
	}
	// One decoder for all inputs, as at the edge: what an input leaves in it
	// must not show in the next.
	var d Decoder
	f.Fuzz(func(t *testing.T, body []byte) {
		var b event.Beacon
		before := bytes.Clone(body)
		rejected, err := d.Decode(body, &b)
		if !bytes.Equal(before, body) {
			t.Fatal("the body was written to")
		}
		if err != nil {
			return
		}
		for i := range body {
			body[i] = 0 // b must not alias it
		}
		refer(t, before, &b, rejected)
	})
}

// refer decodes a body by encoding/json and compares.
func refer(t *testing.T, body []byte, b *event.Beacon, rejected []Rejection) {
	if !json.Valid(body) {
		t.Fatal("taken, and not JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var ref map[string]any
	if err := dec.Decode(&ref); err != nil {
		t.Fatal(err)
	}
	equal(t, "app", b.App, ref["app"])
	equal(t, "release", string(b.Release), ref["release"])
	equal(t, "session", b.Session, ref["session"])
	equal(t, "sdk", b.SDK, ref["sdk"])
	equal(t, "user", b.User, ref["user"])
	if tenancy, ok := ref["tenancy"]; ok || b.Tenancy != event.Production {
		equal(t, "tenancy", b.Tenancy.String(), tenancy)
	}
	number(t, "seq", float64(b.Seq), ref["seq"])
	number(t, "sent", float64(b.Sent), ref["sent"])

	ctx, _ := ref["ctx"].(map[string]any)
	equal(t, "ctx.platform", b.Ctx.Platform, ctx["platform"])
	equal(t, "ctx.os", b.Ctx.OS, ctx["os"])
	equal(t, "ctx.browser", b.Ctx.Browser, ctx["browser"])
	equal(t, "ctx.device", b.Ctx.Device, ctx["device"])
	equal(t, "ctx.network", b.Ctx.Network, ctx["network"])
	page, _ := ctx["page"].(string)
	page, _, _ = strings.Cut(page, "?")
	page, _, _ = strings.Cut(page, "#")
	equal(t, "ctx.page", b.Ctx.Page, page)

	arms, _ := ref["arms"].(map[string]any)
	if len(arms) != len(b.Arms) {
		t.Fatalf("%d arms, want %d", len(b.Arms), len(arms))
	}
	for _, a := range b.Arms {
		equal(t, "arm", a.Variant, arms[a.Change])
	}
	drops, _ := ref["drops"].(map[string]any)
	if len(drops) != len(b.Drops) {
		t.Fatalf("%d drops, want %d", len(b.Drops), len(drops))
	}
	for _, d := range b.Drops {
		number(t, "drop", float64(d.Count), drops[d.Cause])
	}

	list, _ := ref["events"].([]any)
	if len(list) != len(b.Events)+len(rejected) {
		t.Fatalf("%d events kept and %d rejected, want %d together", len(b.Events), len(rejected), len(list))
	}
	left := rejected
	kept := b.Events
	for i, v := range list {
		if len(left) > 0 && left[0].Index == i {
			left = left[1:]
			continue
		}
		referEvent(t, &kept[0], v.(map[string]any))
		kept = kept[1:]
	}
	if len(left) > 0 {
		t.Fatalf("rejections not in order: %v", rejected)
	}
}

func referEvent(t *testing.T, e *event.One, ref map[string]any) {
	equal(t, "k", e.Kind.String(), ref["k"])
	equal(t, "n", e.Name, ref["n"])
	equal(t, "m", e.Message, ref["m"])
	equal(t, "s", e.Stack, ref["s"])
	number(t, "t", float64(e.Time), ref["t"])
	v, has := ref["v"]
	if has != e.HasVal {
		t.Fatalf("has a value: %v, want %v", e.HasVal, has)
	}
	if has {
		number(t, "v", e.Value, v)
	}
	if u, ok := ref["u"]; ok && u != "" {
		equal(t, "u", e.Unit, u)
	}
	attrs, _ := ref["a"].(map[string]any)
	n := 0
	for key, v := range attrs {
		if v == nil {
			continue
		}
		n++
		a, ok := e.Attr(key)
		switch v := v.(type) {
		case string:
			equal(t, key, a.Text, v)
		case bool:
			equal(t, key, a.Text, strconv.FormatBool(v))
		case json.Number:
			number(t, key, a.Number, v)
		default:
			t.Fatalf("attribute %q is %T and was kept", key, v)
		}
		if _, num := v.(json.Number); num != a.Num || !ok {
			t.Fatalf("attribute %q is %+v, want %v", key, a, v)
		}
	}
	if n != len(e.Attrs) {
		t.Fatalf("%d attributes, want %d", len(e.Attrs), n)
	}
}

// equal compares a text, which is empty where the reference has none.
func equal(t *testing.T, what, got string, want any) {
	t.Helper()
	text, ok := want.(string)
	if want != nil && !ok || got != text {
		t.Fatalf("%s is %q, want %v", what, got, want)
	}
}

// number compares to the bit; only the sign of an integer zero may be lost.
func number(t *testing.T, what string, got float64, want any) {
	t.Helper()
	n, ok := want.(json.Number)
	f, err := n.Float64()
	if !ok || err != nil || math.Float64bits(got) != math.Float64bits(f) && (got != 0 || f != 0 || what == "v") {
		t.Fatalf("%s is %v, want %v", what, got, want)
	}
}
