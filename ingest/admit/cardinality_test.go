package admit

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// limitedGrant is the grant of an unbound key with limits.
func limitedGrant(t testing.TB, id string, l tenant.Limits) *tenant.Grant {
	t.Helper()
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: id, Limits: l, Keys: []tenant.Key{{Key: "pk_1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := d.Key("pk_1")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// apart returns clients of networks that are told apart.
func apart(c *Cardinality, n int) (list []*Client) {
	seen := map[uint64]bool{}
	for i := 0; len(list) < n; i++ {
		one := from(i)
		if b := c.hash(one.Prefix) % networks; !seen[b] {
			seen[b], list = true, append(list, one)
		}
	}
	return list
}

// from is a client of the nth network.
func from(n int) *Client { return &Client{Prefix: fmt.Sprint("network-", n)} }

const someDay = int64(1_795_000_000_000)

// said is a beacon that says word wherever a text may stand.
func said(word string) *event.Beacon {
	return &event.Beacon{App: "app-" + word, Release: event.Release("release-" + word), SDK: "sdk-" + word, Arms: []event.Arm{{Change: "change", Variant: word}},
		Ctx: event.Context{OS: "os-" + word, Page: "/" + word},
		Events: []event.One{{Kind: event.Metric, Name: "metric-" + word, Unit: word, Message: "m " + word, Stack: "s " + word,
			Attrs: []event.Attr{{Key: "key", Text: word}, {Key: "trace_id", Text: word}, {Key: "key-" + word, Text: "true"}, {Key: "status", Num: true, Number: float64(len(word))}}}},
		Drops: []event.Dropped{{Cause: "vital/" + word, Count: 1}}}
}

// texts lists what is bounded of a beacon that said made.
func texts(b *event.Beacon) []string {
	e := &b.Events[0]
	out := []string{b.App, string(b.Release), b.SDK, b.Ctx.OS, b.Ctx.Page, e.Name, e.Unit, b.Drops[0].Cause, b.Arms[0].Variant}
	for _, a := range e.Attrs {
		if a.Key == "key" {
			out = append(out, a.Text)
		}
	}
	return append(out, e.Attrs[2].Key)
}

func TestBoundIsPerFieldAndCounted(t *testing.T) {
	limits := tenant.Limits{Apps: 4, Releases: 4, Arms: 4, Names: 4, Pages: 4, Context: 4, AttrKeys: 6, AttrValues: 4}
	g := limitedGrant(t, "bounded", limits)
	c := NewCardinality()
	clients := apart(c, 5)
	for n := range 4 {
		b := said(fmt.Sprint(n))
		c.Bound(g, clients[n], nil, b, someDay)
		for _, s := range texts(b) {
			if s == Other {
				t.Errorf("beacon %d: %v", n, texts(b))
				break
			}
		}
	}
	count := func(f string) uint64 {
		return metrics.GetOrCreateCounter(fmt.Sprintf(`serin_ingest_overflow_values_total{tenant="bounded",field=%q}`, f)).Get()
	}
	before := map[string]uint64{}
	for _, f := range fieldNames {
		before[f] = count(f)
	}
	b := said("one too many")
	c.Bound(g, clients[4], nil, b, someDay)
	for i, s := range texts(b) {
		if s != Other {
			t.Errorf("text %d is %q", i, s)
		}
	}
	if e := b.Events[0]; e.Message != "m one too many" || e.Stack != "s one too many" || e.Attrs[1].Text != "one too many" || e.Attrs[3].Number != 12 || len(e.Attrs) != 4 {
		t.Errorf("what is not bounded changed: %+v", e)
	}
	if b.Arms[0] != (event.Arm{Change: Other, Variant: Other}) {
		t.Errorf("arm %v", b.Arms[0])
	}
	for f, want := range map[string]uint64{"app": 1, "release": 1, "arm": 1, "page": 1, "name": 2, "context": 3, "attr_key": 1, "attr_value": 1} {
		if got := count(f) - before[f]; got != want {
			t.Errorf("%d of field %s are counted, want %d", got, f, want)
		}
	}
	// What was known before still is.
	b = said("2")
	c.Bound(g, clients[4], nil, b, someDay)
	for i, s := range texts(b) {
		if s == Other {
			t.Errorf("text %d was forgotten", i)
		}
	}
}

// TestNamesOfSessionsAreKept has junk fill all names before a page's first boot: that
// it did not get to init is what tells a canary that does not start.
func TestNamesOfSessionsAreKept(t *testing.T) {
	g := limitedGrant(t, "sessions", tenant.Limits{Names: 2})
	c := NewCardinality()
	for i, name := range []string{"junk 0", "junk 1", "boot", "init", "start", "end"} {
		b := &event.Beacon{App: "a", Release: "1", Events: []event.One{{Kind: event.Session, Name: name}}}
		c.Bound(g, apart(c, 6)[i], nil, b, someDay)
		if got := b.Events[0].Name; got != name {
			t.Errorf("%s became %s", name, got)
		}
	}
}

func TestOverflowsJoin(t *testing.T) {
	g := limitedGrant(t, "joins", tenant.Limits{Arms: 1, AttrKeys: 1})
	c := NewCardinality()
	b := &event.Beacon{App: "a", Release: "1", Arms: []event.Arm{{Change: "a", Variant: "x"}, {Change: "b", Variant: "x"}, {Change: "c", Variant: "x"}},
		Events: []event.One{{Kind: event.Event, Name: "e", Attrs: []event.Attr{{Key: "a", Text: "1"}, {Key: "b", Text: "2"}, {Key: "failed", Text: "true"}, {Key: "c", Num: true, Number: 3}}}}}
	c.Bound(g, from(1), nil, b, someDay)
	if got := fmt.Sprint(b.Arms); got != "[{a x} {other other}]" {
		t.Errorf("arms %s", got)
	}
	if got := fmt.Sprint(b.Events[0].Attrs); got != "[{a 1 0 false} {other other 0 false} {failed true 0 false}]" {
		t.Errorf("attributes %s", got)
	}
}

func TestBoundKeyHasItsApp(t *testing.T) {
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "keys", Limits: tenant.Limits{Apps: 1}, Keys: []tenant.Key{{Key: "pk_1", App: "one"}, {Key: "pk_2", App: "two"}}}})
	if err != nil {
		t.Fatal(err)
	}
	c := NewCardinality()
	for key, app := range map[string]string{"pk_1": "one", "pk_2": "two"} {
		g, err := d.Key(key)
		if err != nil {
			t.Fatal(err)
		}
		b := &event.Beacon{App: app, Release: "1"}
		if c.Bound(g, from(1), nil, b, someDay); b.App != app {
			t.Errorf("%s became %s", app, b.App)
		}
	}
}

// TestFloodEvictsNothing lets one network and then many bring as many new
// texts as they like, over several windows, beside a site that goes on as
// before and brings something new now and then.
func TestFloodEvictsNothing(t *testing.T) {
	limits := tenant.Limits{Apps: 10, Releases: 10, Arms: 10, Names: 100, Pages: 100, Context: 10, AttrKeys: 20, AttrValues: 100, Window: time.Hour}
	g := limitedGrant(t, "flooded", limits)
	c := NewCardinality()
	r := rand.New(rand.NewPCG(1, 2))
	clients := apart(c, 42)
	page := func(name string, network int, now int64) bool {
		b := &event.Beacon{App: "site", Release: "1", Ctx: event.Context{Page: name}}
		c.Bound(g, clients[network], nil, b, now)
		return b.Ctx.Page == name && b.App == "site" && b.Release == "1"
	}
	for n := range 20 {
		if !page(fmt.Sprint("/page/", n), n, someDay) {
			t.Fatalf("page %d is not known", n)
		}
	}
	now := someDay
	for window := range 6 {
		for range 500 {
			c.Bound(g, clients[40], nil, said(fmt.Sprint(r.Uint64())), now)
		}
		// One network leaves room: something new of another is let in.
		if !page(fmt.Sprint("/new/", window), 41, now) {
			t.Errorf("window %d: a new page is crowded out by one network", window)
		}
		for n := range 20 {
			if !page(fmt.Sprint("/page/", n), n, now) {
				t.Fatalf("window %d: page %d was evicted", window, n)
			}
		}
		now += time.Hour.Milliseconds()
	}
	for range 3 {
		for i := range 2000 {
			c.Bound(g, from(i), nil, said(fmt.Sprint(r.Uint64())), now)
		}
		for n := range 20 {
			if !page(fmt.Sprint("/page/", n), n, now) {
				t.Fatalf("page %d was evicted by many networks", n)
			}
		}
		now += time.Hour.Milliseconds()
	}
	// The room comes back when the flood has ended.
	now += 2 * time.Hour.Milliseconds()
	for n := range 40 {
		if !page(fmt.Sprint("/after/", n), 7, now) {
			t.Errorf("page %d is not let in after the flood", n)
		}
	}
}

// TestFloodIsBoundedInMemory floods every field from every network.
func TestFloodIsBoundedInMemory(t *testing.T) {
	g := limitedGrant(t, "memory", tenant.Limits{AttrKeys: 50, AttrValues: 300})
	c := NewCardinality()
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 40_000 {
		b := said(fmt.Sprint(r.Uint64()))
		b.Events[0].Attrs[0].Key = fmt.Sprint("key-", i%50)
		b.Events[0].Kind = event.Kind(1 + i%len(event.Kinds()))
		c.Bound(g, from(i), nil, b, someDay)
	}
	v := c.of(g)
	total := v.attrs.bytes()
	for _, k := range append([]*known{v.apps, v.release, v.arms, v.pages}, append(v.names, v.context[:]...)...) {
		if k.n > k.limit {
			t.Errorf("%d texts, limit %d", k.n, k.limit)
		}
		total += k.bytes()
	}
	l := g.Limits
	most := 64 * (l.Apps + l.Releases + l.Arms + l.Pages + 16*l.Names + contextCount*l.Context + l.AttrKeys*(1+l.AttrValues) + 2000)
	if total > most || total < most/16 {
		t.Errorf("%d bytes, want at most %d and not much less", total, most)
	}
}

func TestLiveRolloutsAreKept(t *testing.T) {
	g := limitedGrant(t, "rollouts", tenant.Limits{Apps: 2, Releases: 2, Arms: 2, Names: 2, AttrValues: 2})
	c := NewCardinality()
	live := Live{"rollouts", "shop-web", "release/2.4.1", "2.4.1", "2.4.0"}
	session := func() *event.Beacon {
		return &event.Beacon{App: "shop-web", Release: "2.4.1", Arms: []event.Arm{{Change: "release/2.4.1", Variant: "canary"}},
			Events: []event.One{{Kind: event.Exposure, Name: "release/2.4.1", Attrs: []event.Attr{{Key: "arm", Text: "canary"}}}}}
	}
	kept := func(b *event.Beacon) bool {
		return b.App == "shop-web" && b.Release == "2.4.1" && b.Arms[0].Variant == "canary" && b.Events[0].Name == "release/2.4.1" && b.Events[0].Attrs[0].Text == "canary"
	}
	flood := func(now int64) {
		for i := range 500 {
			b := said(fmt.Sprint(now, i))
			b.Events[0].Kind, b.Events[0].Attrs[0].Key = event.Exposure, "arm"
			c.Bound(g, from(i), nil, b, now)
		}
	}
	flood(someDay)
	b := session()
	if c.Bound(g, from(0), nil, b, someDay); kept(b) {
		t.Fatal("the flood left room, and the test shows nothing")
	}
	c.Keep([]Live{live, {"elsewhere", "shop-web", "release/9", "9", "8"}})
	now := someDay
	for range 4 { // also when it was not seen for windows
		b = session()
		if c.Bound(g, from(0), nil, b, now); !kept(b) {
			t.Fatalf("%+v", b)
		}
		now += 13 * time.Hour.Milliseconds()
		flood(now)
	}
	baseline := &event.Beacon{App: "shop-web", Release: "2.4.0", Arms: []event.Arm{{Change: "release/2.4.1", Variant: "baseline"}}}
	if c.Bound(g, from(0), nil, baseline, now); baseline.Release != "2.4.0" || baseline.Arms[0].Variant != "baseline" {
		t.Errorf("%+v", baseline)
	}
	stranger := &event.Beacon{App: "shop-web", Release: "9", Arms: []event.Arm{{Change: "release/2.4.1", Variant: "made up"}}}
	if c.Bound(g, from(0), nil, stranger, now); stranger.Release != Other || stranger.Arms[0].Change != Other {
		t.Errorf("a variant that no rollout names, and another tenant's release, are kept: %+v", stranger)
	}
	// When it has ended it is one among others.
	c.Keep(nil)
	b = session()
	if c.Bound(g, from(0), nil, b, now); !kept(b) {
		t.Error("what was in use a moment ago is forgotten")
	}
	now += 48 * time.Hour.Milliseconds()
	flood(now)
	b = session()
	if c.Bound(g, from(0), nil, b, now); kept(b) {
		t.Error("what has ended is kept for good")
	}
	// And a tenant that is seen first after its rollout began.
	fresh := limitedGrant(t, "elsewhere", tenant.Limits{Releases: 1})
	c.Keep([]Live{{"elsewhere", "shop-web", "release/9", "9", "8"}})
	for _, release := range []event.Release{"1", "2", "9", "8"} {
		b := &event.Beacon{App: "shop-web", Release: release}
		if c.Bound(fresh, from(0), nil, b, someDay); (b.Release == Other) != (release == "2") {
			t.Errorf("release %s became %s", release, b.Release)
		}
	}
}

// TestMemoForgetsWithTheWindow goes over windows with one memo and with none,
// and wants the same.
func TestMemoForgetsWithTheWindow(t *testing.T) {
	limits := tenant.Limits{Pages: 8, Names: 8, Window: time.Hour}
	g := limitedGrant(t, "memo", limits)
	with, without, memo := NewCardinality(), NewCardinality(), new(Memo)
	without.seed = with.seed // so that networks are sorted alike
	r := rand.New(rand.NewPCG(6, 7))
	over := 0
	for i := range 5000 {
		now := someDay + int64(i)*time.Minute.Milliseconds()
		n, client := r.IntN(30), from(r.IntN(8))
		made := func() *event.Beacon {
			return &event.Beacon{App: "a", Release: "1", Ctx: event.Context{Page: word("/", n)},
				Events: []event.One{{Kind: event.View, Name: word("v", n), Attrs: []event.Attr{{Key: word("k", n%5), Text: word("t", n)}}}}}
		}
		a, b := made(), made()
		with.Bound(g, client, memo, a, now)
		without.Bound(g, client, nil, b, now)
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Fatalf("beacon %d: %v with a memo, %v without", i, a, b)
		}
		if a.Ctx.Page == Other {
			over++
		}
	}
	if over < 100 {
		t.Errorf("%d overflows: the test shows nothing", over)
	}
}

// TestBoundConcurrently is for the race detector, and for what must hold at
// the end: no more than the limit is known, and what all used is.
func TestBoundConcurrently(t *testing.T) {
	limits := tenant.Limits{Pages: 64, Releases: 64, Window: 10 * time.Minute}
	g := limitedGrant(t, "races", limits)
	c := NewCardinality()
	// Known before it begins, as of a site that runs.
	c.Bound(g, from(0), nil, &event.Beacon{App: "a", Release: "1", Ctx: event.Context{Page: "/always"}}, someDay)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 5))
			now := someDay
			for range 1500 {
				now += int64(r.IntN(1000))
				c.Bound(g, from(r.IntN(100)), nil, said(fmt.Sprint(r.IntN(500))), now)
				b := &event.Beacon{App: "a", Release: "1", Ctx: event.Context{Page: "/always"}}
				if c.Bound(g, from(w), nil, b, now); b.Ctx.Page != "/always" {
					t.Errorf("a page in use was forgotten")
					return
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 200 {
			c.Keep([]Live{{"races", "a", "flag/x", fmt.Sprint(i % 3), "1"}})
		}
		c.Keep(nil)
	})
	wg.Wait()
	v := c.of(g)
	for name, k := range map[string]*known{"pages": v.pages, "releases": v.release} {
		tab, n, pinned := k.table.Load(), 0, 0
		for i := range tab.slots {
			if s := tab.slots[i].Load(); s != 0 {
				n++
				if s&markMask == markPinned {
					pinned++
				}
			}
		}
		// What a rollout named and no longer does may stand over the limit.
		if n != k.n+k.pinned || pinned != 0 || k.n > k.limit+6 {
			t.Errorf("%s: %d texts in the table, counted %d and %d pinned, limit %d", name, n, k.n, k.pinned, k.limit)
		}
	}
}

// word gives out one copy of a text, as a decoder does.
var word = func() func(...any) string {
	all := map[string]string{}
	return func(parts ...any) string {
		s := fmt.Sprint(parts...)
		if _, ok := all[s]; !ok {
			all[s] = s
		}
		return all[s]
	}
}()

// usual is a beacon of ten events as sdk-js sends them.
func usual(n int) *event.Beacon {
	b := &event.Beacon{SDK: "serin-js/1.0.0", App: "shop-web", Release: "2.4.1", Session: "01J9ZK3W8Q5T7N2M", Arms: []event.Arm{{Change: "release/2.4.1", Variant: "canary"}},
		Ctx: event.Context{Platform: "web", OS: "Android 15", Browser: "Chrome 142", Device: "mobile", Network: "4g", Page: word("/page/", n%20)}}
	for i := range 5 {
		b.Events = append(b.Events, event.One{Kind: event.Vital, Name: []string{"LCP", "INP", "CLS", "FCP", "TTFB"}[i], HasVal: true,
			Attrs: []event.Attr{{Key: "rating", Text: "good"}, {Key: "id", Text: fmt.Sprint("v5-", n)}, {Key: "navigation", Text: "navigate"}}})
	}
	for i := range 3 {
		b.Events = append(b.Events, event.One{Kind: event.Request, Name: word("GET /api/", i), HasVal: true,
			Attrs: []event.Attr{{Key: "status", Num: true, Number: 200}, {Key: "failed", Text: "false"}, {Key: "host", Text: "shop.example"}}})
	}
	return with(b, event.One{Kind: event.Exposure, Name: "release/2.4.1", Attrs: []event.Attr{{Key: "arm", Text: "canary"}}},
		event.One{Kind: event.Error, Name: "TypeError", Message: "x is undefined", Attrs: []event.Attr{{Key: "handled", Text: "false"}}})
}

func with(b *event.Beacon, events ...event.One) *event.Beacon {
	b.Events = append(b.Events, events...)
	return b
}

// BenchmarkBound is the way of what is known: a beacon of ten events.
func BenchmarkBound(b *testing.B) {
	g := limitedGrant(b, "bench", tenant.Limits{})
	c := NewCardinality()
	var list []*event.Beacon
	for n := range 64 {
		list = append(list, usual(n))
		c.Bound(g, from(n), nil, list[n], someDay)
	}
	b.Run("one", func(b *testing.B) {
		client, memo := from(1), new(Memo)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			c.Bound(g, client, memo, list[i%64], someDay)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			client, memo, own := from(1), new(Memo), make([]event.Beacon, 64)
			for i := range own {
				own[i] = *usual(i)
			}
			for i := 0; pb.Next(); i++ {
				c.Bound(g, client, memo, &own[i%64], someDay)
			}
		})
	})
	b.Run("flood", func(b *testing.B) { // each text is one too many
		client := from(1)
		bc := said("x")
		for i := 0; b.Loop(); i++ {
			bc.Ctx.Page = fmt.Sprint("/flood/", i)
			c.Bound(g, client, nil, bc, someDay)
		}
	})
}
