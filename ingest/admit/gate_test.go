package admit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"context"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

func grants(t *testing.T, quota map[string]tenant.Quota) map[string]*tenant.Grant {
	t.Helper()
	var specs []tenant.Spec
	for id, q := range quota {
		specs = append(specs, tenant.Spec{ID: id, Quota: q, Keys: []tenant.Key{{Key: "pk_" + id}}})
	}
	d, err := tenant.NewDirectory(specs)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*tenant.Grant{}
	for id := range quota {
		if out[id], err = d.Key("pk_" + id); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// full is a beacon with one event of each class.
func full(session string) *event.Beacon {
	return &event.Beacon{Session: session, Events: []event.One{{Kind: event.Exposure, Name: "x"}, {Kind: event.Crash, Name: "x"}, {Kind: event.Vital, Name: "LCP"},
		{Kind: event.Request, Name: "GET /"}, {Kind: event.Resource, Name: "/a.js"}}}
}

func TestKeepGoesClassByClass(t *testing.T) {
	for _, c := range []struct {
		pressure float64
		want     [event.Classes]float64
	}{
		{0, [...]float64{1, 1, 1, 1, 1}},
		{0.25, [...]float64{1, 1, 1, 1, 0.75}},
		{1, [...]float64{1, 1, 1, 1, 0}},
		{1.5, [...]float64{1, 1, 1, 0.5, 0}},
		{3.5, [...]float64{1, 0.5, 0, 0, 0}},
		{4, [...]float64{1, 0, 0, 0, 0}},
	} {
		for class, want := range c.want {
			if got := keep(c.pressure, event.Class(class)); got != want {
				t.Errorf("pressure %v keeps %v of %s, want %v", c.pressure, got, event.Class(class), want)
			}
		}
	}
}

// drive offers beacons of a tenant for some simulated seconds and returns how
// many events of each class were offered and kept.
type tally struct{ offered, kept [event.Classes]float64 }

func count(to *[event.Classes]float64, b *event.Beacon) {
	for i := range b.Events {
		to[event.ClassOf(event.Production, &b.Events[i])]++
	}
}

// TestQuota has one tenant send 50 times its quota and one stay within its
// own: the first is held to it, lowest classes first, the second loses nothing.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := NewGate(0)
		go g.Run(ctx)
		by := grants(t, map[string]tenant.Quota{"greedy": {Events: 1000}, "good": {Events: 1000}})
		tallies := map[string]*tally{"greedy": {}, "good": {}}
		r := rand.New(rand.NewPCG(1, 2))
		for ms := range 20_000 {
			time.Sleep(time.Millisecond)
			for id, per := range map[string]int{"greedy": 10, "good": 1} {
				if id == "good" && ms%10 != 0 {
					continue
				}
				for range per {
					b := full(fmt.Sprintf("session-%d", r.Uint64()))
					tl := tallies[id]
					if ms > 10_000 { // settled
						count(&tl.offered, b)
					}
					g.Shed(by[id], b)
					if ms > 10_000 {
						count(&tl.kept, b)
					}
				}
			}
		}
		cancel()
		synctest.Wait()
		greedy, good := tallies["greedy"], tallies["good"]
		if good.kept != good.offered {
			t.Errorf("the good tenant kept %v of %v", good.kept, good.offered)
		}
		if greedy.kept[event.ClassAccounting] != greedy.offered[event.ClassAccounting] {
			t.Errorf("accounting was shed: %v of %v", greedy.kept, greedy.offered)
		}
		for c := event.ClassCrash; c < event.Classes; c++ {
			if greedy.kept[c] > 0.05*greedy.offered[c] {
				t.Errorf("%s: %v of %v are kept at 50 times the quota", c, greedy.kept[c], greedy.offered[c])
			}
		}
	})
}

// TestSheddingIsTheSameForAllCohorts compares the shares that two arms of very
// different sizes lose.
func TestSheddingIsTheSameForAllCohorts(t *testing.T) {
	g := NewGate(0)
	by := grants(t, map[string]tenant.Quota{"a": {Events: 1}})
	l := g.load(by["a"], event.Production)
	l.pressure.Store(math.Float64bits(0.6))
	lost := map[bool]float64{}
	n := map[bool]float64{}
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 200_000 {
		canary := i%5 == 0
		b := full(fmt.Sprintf("%016x", r.Uint64()))
		first := full(b.Session)
		lost[canary] += float64(g.Shed(by["a"], b))
		n[canary]++
		if g.Shed(by["a"], first); len(first.Events) != len(b.Events) {
			t.Fatal("two beacons of one session fared differently")
		}
	}
	a, b := lost[true]/n[true], lost[false]/n[false]
	if math.Abs(a-b) > 0.01 || math.Abs(a-0.6) > 0.01 {
		t.Errorf("the canary lost %.4f, the baseline %.4f, want 0.6 both", a, b)
	}
}

func TestWhatIsKeptSaysItsShare(t *testing.T) {
	g := NewGate(0)
	by := grants(t, map[string]tenant.Quota{"a": {Events: 1}})
	g.load(by["a"], event.Production).pressure.Store(math.Float64bits(1.25))
	for i := range 100 {
		b := full(fmt.Sprintf("session-%d", i))
		shed := g.Shed(by["a"], b)
		var told int64
		for _, d := range b.Drops {
			told += d.Count
		}
		if told != int64(shed) || shed+len(b.Events) != 5 {
			t.Fatalf("%d shed, %d told, %d kept", shed, told, len(b.Events))
		}
		for _, e := range b.Events {
			share, ok := e.Attr(event.ShareKey)
			if want := e.Kind == event.Request; ok != want || ok && share.Number != 0.75 {
				t.Errorf("%s says %v, %v", e.Kind, share.Number, ok)
			}
		}
	}
	if got := g.Advice(by["a"], event.Production, false); got != "resource;stop, error;wait=30" {
		t.Errorf("advice %q", got)
	}
	if got := g.Advice(by["a"], event.Test, false); got != "" {
		t.Errorf("advice to other traffic %q", got)
	}
}

// TestLiveSessionsAreShedLast has a pressure at which everything but crashes
// goes, and sessions of a rollout beside others.
func TestLiveSessionsAreShedLast(t *testing.T) {
	g := NewGate(0)
	by := grants(t, map[string]tenant.Quota{"a": {}, "b": {}})
	g.Keep([]Live{{"a", "shop", "release/2", "2", "1"}, {"a", "shop", "flag/x", "on", "off"}})
	for _, id := range []string{"a", "b"} {
		l := g.load(by[id], event.Production)
		l.pressure.Store(math.Float64bits(3))
		l.crash.Store(math.Float64bits(3))
	}
	for _, c := range []struct {
		tenant, app string
		release     event.Release
		arms        []event.Arm
		kept        int
	}{
		{"a", "shop", "2", nil, 5},
		{"a", "shop", "1", nil, 5},
		{"a", "shop", "0", nil, 2},
		{"a", "shop", "0", []event.Arm{{Change: "flag/x", Variant: "on"}}, 5},
		{"a", "other", "2", nil, 2},
		{"b", "shop", "2", nil, 2},
	} {
		b := full("session-1")
		b.App, b.Release, b.Arms = c.app, c.release, c.arms
		if g.Shed(by[c.tenant], b); len(b.Events) != c.kept {
			t.Errorf("%+v: %d of 5 are kept", c, len(b.Events))
		}
	}
	if got := g.Advice(by["a"], event.Production, true); got != "" {
		t.Errorf("a session of a rollout is told %q", got)
	}
	if got := g.Advice(by["a"], event.Production, false); got != "resource;stop, error;stop, vital;stop" {
		t.Errorf("another is told %q", got)
	}
	// Past that they are shed as all are, and crashes are not.
	g.load(by["a"], event.Production).pressure.Store(math.Float64bits(4))
	b := full("session-1")
	b.App, b.Release = "shop", "2"
	if g.Shed(by["a"], b); len(b.Events) != 2 {
		t.Errorf("%d of 5 are kept", len(b.Events))
	}
}

// TestRefuse has requests of a tenant at 40 times its quota refused unread, as
// many as it takes, evenly, and none of another's.
func TestRefuse(t *testing.T) {
	g := NewGate(0)
	by := grants(t, map[string]tenant.Quota{"greedy": {Events: 2000}, "good": {Events: 100}, "free": {}})
	asked, read := 0, 0
	var odd [2]int
	for tick := range 300 {
		for i := range 1600 {
			asked++
			wait := g.Refuse(by["greedy"])
			if wait != 0 && (wait < time.Second || wait > 10*time.Second) {
				t.Fatal(wait)
			}
			if wait == 0 {
				g.Shed(by["greedy"], full(fmt.Sprint("session-", asked))) // 5 events: 80,000 a second
				if tick >= 100 {
					read++
					odd[i%2]++
				}
			}
		}
		if g.Refuse(by["good"]) != 0 || g.Refuse(by["free"]) != 0 {
			t.Fatal("a tenant within its quota is refused")
		}
		g.Shed(by["good"], full("session-0"))
		g.Shed(by["free"], full("session-0"))
		g.step()
	}
	if share := float64(read) / (200 * 1600); share < 0.08 || share > 0.13 {
		t.Errorf("%.3f are read, want 0.1: four times the quota", share)
	}
	// A small quota is no reason to refuse what costs nothing to read.
	for tick := range 100 {
		for i := range 20 {
			if g.Refuse(by["good"]) != 0 {
				t.Fatal("1,000 events a second are refused unread")
			}
			g.Shed(by["good"], full(fmt.Sprint("s-", tick, i)))
		}
		g.step()
	}
	if d := float64(odd[0]-odd[1]) / float64(read); math.Abs(d) > 0.05 {
		t.Errorf("every other request fares differently: %v", odd)
	}
}

// TestGreediestFirst has the store fall behind: the tenant that sends most is
// shed, the others are not while that helps, and all recovers.
func TestGreediestFirst(t *testing.T) {
	g := NewGate(0)
	by := grants(t, map[string]tenant.Quota{"big": {}, "small": {}})
	for range 10 {
		for i := range 20 {
			g.Shed(by["big"], full(fmt.Sprint("session-", i)))
		}
		g.Shed(by["small"], full("session-0"))
		g.Waited(time.Second)
		g.step()
	}
	p := func(id string) float64 {
		return math.Float64frombits(g.load(by[id], event.Production).pressure.Load())
	}
	if p("big") < 1 || p("small") != 0 {
		t.Errorf("pressures: big %v, small %v", p("big"), p("small"))
	}
	for range 100 {
		g.Waited(time.Second)
		g.Waited(time.Millisecond) // the queue empties within each tick
		g.step()
	}
	if p("big") != 0 {
		t.Errorf("pressure %v after the shortage", p("big"))
	}
}
