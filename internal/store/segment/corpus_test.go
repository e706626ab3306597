package segment

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
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

// partition is a short way to name one.
func partition(t testing.TB, id, app, release string) batch.Partition {
	return batch.Partition{Tenant: mustID(t, id), App: app, Release: event.Release(release)}
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// realistic makes a beacon of ten events such as a page view sends: five
// vitals, three requests, an exposure and a view; one in twenty has an error
// with a stack.
func realistic(r *rand.Rand, p batch.Partition, session string, seq uint32, now int64) *event.Beacon {
	b := &event.Beacon{
		SDK: "serin-js/1.0.0", App: p.App, Release: p.Release, Session: session, Seq: seq,
		Sent: now - 40, Received: now,
		Arms: []event.Arm{{Change: "release/" + string(p.Release), Variant: pick(r, "canary", "baseline")}},
		Ctx: event.Context{
			Platform: "web", OS: pick(r, "iOS 19.1", "Android 16", "Windows 11", "macOS 26"),
			Browser: pick(r, "Chrome 143", "Safari 19.1", "Firefox 145"), Device: pick(r, "mobile", "desktop", "tablet"),
			Network: pick(r, "4g", "wifi", "3g"), Country: pick(r, "DE", "FR", "US", "IN", "BR", "JP"),
			Page: fmt.Sprintf("/shop/item/%d", r.IntN(300)),
		},
	}
	at := func() int64 { return now - int64(r.IntN(10_000)) }
	b.Events = append(b.Events,
		event.One{Kind: event.Exposure, Name: "release/" + string(p.Release), Time: at()},
		event.One{Kind: event.View, Name: b.Ctx.Page, Time: at()})
	for _, v := range []string{"lcp", "inp", "fcp", "ttfb"} {
		b.Events = append(b.Events, event.One{Kind: event.Vital, Name: v, Time: at(),
			Value: float64(int(r.ExpFloat64()*18000)) / 10, HasVal: true, Unit: "ms",
			Attrs: []event.Attr{{Key: "navigation", Text: pick(r, "navigate", "reload", "back-forward")}}})
	}
	b.Events = append(b.Events, event.One{Kind: event.Vital, Name: "cls", Time: at(), Value: r.Float64() * .3, HasVal: true})
	for range 3 {
		b.Events = append(b.Events, event.One{Kind: event.Request, Name: fmt.Sprintf("/api/v1/%d", r.IntN(40)), Time: at(),
			Value: float64(int(r.ExpFloat64() * 120)), HasVal: true, Unit: "ms",
			Attrs: []event.Attr{{Key: "method", Text: "GET"}, {Key: "status", Number: pick(r, 200., 200, 200, 304, 500), Num: true}}})
	}
	if r.IntN(20) == 0 {
		n := r.IntN(30)
		b.Events[9] = event.One{Kind: event.Error, Name: "TypeError", Time: at(), Message: fmt.Sprintf("x.f%d is not a function", n),
			Stack: fmt.Sprintf("at f%d (app.js:%d:17)\nat g (app.js:9:3)\nat main (app.js:1:1)", n, n*31)}
	}
	return b
}

// corpus appends beacons until there are so many rows, ten beacons a session.
func corpus(r *rand.Rand, p batch.Partition, rows int, position *uint64) *batch.Batch {
	b := batch.New(p)
	session, now := "", int64(1_790_000_000_000)
	for n := 0; b.Len() < rows; n++ {
		if n%10 == 0 {
			session = fmt.Sprintf("%016x", r.Uint64())
		}
		if n%50 == 0 {
			*position++
		}
		now += int64(r.IntN(20))
		b.Append(*position, n%50, realistic(r, p, session, uint32(n%10), now))
	}
	return b
}
