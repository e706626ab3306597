package batch

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

func mustID(t testing.TB, name string) tenant.ID {
	t.Helper()
	id, err := tenant.Stored(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// text is often empty, often one that was there before, and often one that the
// canonical texts must escape.
func text(r *rand.Rand) string {
	if r.IntN(3) > 0 {
		return pick(r, "", "web", "4g", "%", "#", "##", "#1", "a=b;c", "%3B%25", "ü\x00日", "\xff\xfe")
	}
	var sb strings.Builder
	for range r.IntN(40) {
		sb.WriteByte("%;=#3BD25ab/"[r.IntN(12)])
	}
	return sb.String()
}

func number(r *rand.Rand) float64 {
	if r.IntN(2) == 0 {
		return pick(r, 0, math.Copysign(0, -1), 1, -1, 1<<31, 1<<31-1, -(1 << 31), 1e15, .1, math.MaxFloat64, math.SmallestNonzeroFloat64)
	}
	return r.NormFloat64() * math.Pow(10, float64(r.IntN(20)-5))
}

func moment(r *rand.Rand) int64 {
	return pick(r, 0, math.MaxInt64, math.MinInt64, 1_790_000_000_000+int64(r.IntN(1e6)))
}

// random makes any beacon that the types allow, not only admitted ones.
func random(r *rand.Rand) *event.Beacon {
	b := &event.Beacon{
		SDK: text(r), App: text(r), Release: event.Release(text(r)), Tenancy: event.Tenancy(r.IntN(4)),
		Session: text(r), User: text(r), Seq: r.Uint32(), Sent: moment(r), Received: moment(r),
		Ctx: event.Context{Platform: text(r), OS: text(r), Browser: text(r), Device: text(r), Network: text(r),
			Country: text(r), Page: text(r), Env: text(r), Prefix: text(r)},
	}
	for range r.IntN(4) {
		b.Arms = append(b.Arms, event.Arm{Change: text(r), Variant: text(r)})
	}
	for range r.IntN(12) {
		e := event.One{Kind: event.Kind(1 + r.IntN(len(event.Kinds()))), Name: text(r), Time: moment(r),
			Unit: text(r), Message: text(r), Stack: text(r)}
		if e.HasVal = r.IntN(2) == 0; e.HasVal {
			e.Value = number(r)
		}
		for range r.IntN(4) {
			a := event.Attr{Key: text(r)}
			if a.Num = r.IntN(2) == 0; a.Num {
				a.Number = number(r)
			} else {
				a.Text = text(r)
			}
			e.Attrs = append(e.Attrs, a)
		}
		b.Events = append(b.Events, e)
	}
	for range r.IntN(3) {
		b.Drops = append(b.Drops, event.Dropped{Cause: text(r), Count: moment(r)})
	}
	return b
}

// clone copies what ReadGroup overwrites.
func clone(b *event.Beacon) *event.Beacon {
	c := *b
	c.Arms = append([]event.Arm(nil), b.Arms...)
	c.Events = append([]event.One(nil), b.Events...)
	c.Drops = append([]event.Dropped(nil), b.Drops...)
	return &c
}

// typical is a beacon of ten events as a page view sends them. n numbers it.
func typical(n int) *event.Beacon {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	now := int64(1_790_000_000_000 + n*10)
	session := make([]byte, 16)
	for i := range session {
		session[i] = "0123456789abcdef"[r.IntN(16)]
	}
	b := &event.Beacon{
		SDK: "serin-js/1.0.0", App: "web", Release: "2.4.1", Session: string(session), Seq: uint32(n % 10), Sent: now - 40, Received: now,
		Arms: []event.Arm{{Change: "release/2.4.1", Variant: pick(r, "canary", "baseline")}},
		Ctx: event.Context{Platform: "web", OS: pick(r, "iOS 19.1", "Android 16", "Windows 11"),
			Browser: pick(r, "Chrome 143", "Safari 19.1"), Device: pick(r, "mobile", "desktop"), Network: pick(r, "4g", "wifi"),
			Country: pick(r, "DE", "FR", "US"), Page: pick(r, "/", "/cart", "/item/1", "/item/2", "/checkout")},
	}
	for _, v := range []string{"lcp", "inp", "fcp", "ttfb"} {
		b.Events = append(b.Events, event.One{Kind: event.Vital, Name: v, Time: now - int64(r.IntN(9000)),
			Value: float64(r.IntN(40000)) / 10, HasVal: true, Unit: "ms", Attrs: []event.Attr{{Key: "navigation", Text: "navigate"}}})
	}
	b.Events = append(b.Events,
		event.One{Kind: event.Vital, Name: "cls", Time: now - 50, Value: r.Float64() / 4, HasVal: true},
		event.One{Kind: event.Exposure, Name: "release/2.4.1", Time: now - 9000},
		event.One{Kind: event.View, Name: b.Ctx.Page, Time: now - 9000})
	for range 3 {
		b.Events = append(b.Events, event.One{Kind: event.Request, Name: pick(r, "/api/cart", "/api/items", "/api/user"),
			Time: now - int64(r.IntN(9000)), Value: float64(r.IntN(500)), HasVal: true, Unit: "ms",
			Attrs: []event.Attr{{Key: "method", Text: "GET"}, {Key: "status", Number: 200, Num: true}}})
	}
	return b
}
