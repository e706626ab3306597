package slo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// start is where simulations begin: minutes since 1970, on a Monday.
var start = int32(time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC).Unix() / 60)

func testObjective(target float64) Objective {
	o := Objective{Name: "o", App: "a", Service: "s", Unit: UnitEvent, Tenancy: "production", Method: Occurrences, Target: target,
		Window: Window{Count: 30, Unit: "d", Rolling: true}, MinUnits: 10, MinClients: 3, Lateness: 5 * time.Minute, Total: Selector{Kind: "request"}, Bad: &Selector{Fails: "requests_ok"}}
	o.Alerts = Defaults(target, o.Window.Period(), 0)
	return o
}

// client is a book with one cohort, to which events are given without batches.
type client struct {
	*Book
	next uint64
}

func newClient(o Objective) *client {
	b := NewBook(o, int64(start)*60_000)
	b.Cohorts = append(b.Cohorts, &Cohort{Release: "1"})
	return &client{Book: b}
}

// see counts an event of a session of its own, at a minute.
func (c *client) see(at int32, bad bool) {
	c.next++
	c.event(c.next, 0, -1, at, int64(at)*60_000+30_000, bad)
}

// pages evaluates the book at the end of a minute and returns the alert that
// pages, or none.
func (c *client) pages(t testing.TB, at int32) (alert string) {
	c.Advance(int64(at+1) * 60_000)
	if err := c.Evaluate("t", Question{At: int64(at+1) * 60_000}, func(s *verdict.SLOState) {
		for i := range s.Alerts {
			if a := &s.Alerts[i]; a.Burning && a.Severity == verdict.SeverityPage {
				alert = a.Name
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	return alert
}

// poisson draws by multiplication, for small means.
func poisson(r *rand.Rand, mean float64) int {
	if mean > 30 {
		return poisson(r, 30) + poisson(r, mean-30)
	}
	n := -1
	for p := 1.0; p > math.Exp(-mean); n++ {
		p *= r.Float64()
	}
	return n
}

// TestFalsePages lets services at 10 events an hour spend their budget just as
// planned, day and night, and counts incidents that page: at most one in a year of
// an objective. BenchmarkFalsePages has more of them.
func TestFalsePages(t *testing.T) {
	const years = 1
	for _, target := range []float64{0.99, 0.999} {
		incidents := 0
		for seed := range uint64(years) {
			incidents += falsePages(t, target, seed)
		}
		if incidents > years {
			t.Errorf("target %v: %d false pages in %d years, want at most one a year", target, incidents, years)
		}
	}
}

// BenchmarkFalsePages reports false pages per year of an objective.
func BenchmarkFalsePages(b *testing.B) {
	for _, target := range []float64{0.75, 0.9, 0.95, 0.99, 0.999} {
		b.Run(fmt.Sprint(target), func(b *testing.B) {
			incidents := 0
			for i := range b.N {
				incidents += falsePages(b, target, uint64(i))
			}
			b.ReportMetric(float64(incidents)/float64(b.N), "pages/year")
		})
	}
}

// falsePages simulates a year.
func falsePages(t testing.TB, target float64, seed uint64) (incidents int) {
	r := rand.New(rand.NewPCG(seed, uint64(target*1e4)))
	c := newClient(testObjective(target))
	last, quiet := int32(-1000), 1000
	for at := start; at < start+365*1440; at++ {
		n := poisson(r, 10./60)
		for range n {
			bad := r.Float64() < 1-target
			c.see(at, bad)
			if bad {
				last = at
			}
		}
		quiet++
		// A page needs something bad in a short window, the longest of which has half
		// an hour; and while nothing comes only the shortest one gets worse.
		if at-last > 30 || n == 0 && at-last > 5 {
			c.Advance(int64(at+1) * 60_000)
			continue
		}
		if c.pages(t, at) != "" {
			if quiet > 60 {
				incidents++
			}
			quiet = 0
		}
	}
	return incidents
}

// TestTinyServicePages has a service at half a request a second fail at 90 %,
// after a day of health, and measures the time to the page.
func TestTinyServicePages(t *testing.T) {
	for _, target := range []float64{0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999} {
		worst := int32(0)
		for seed := range uint64(20) {
			r := rand.New(rand.NewPCG(seed, 7))
			c := newClient(testObjective(target))
			broke := start + 1440
			for at := start; ; at++ {
				p := (1 - target) / 2
				if at >= broke {
					p = 0.9
				}
				for range poisson(r, 30) {
					c.see(at, r.Float64() < p)
				}
				name := ""
				if at >= broke {
					name = c.pages(t, at)
				} else {
					c.Advance(int64(at+1) * 60_000)
				}
				if name != "" {
					worst = max(worst, at+1-broke)
					break
				}
				if at > broke+30 {
					t.Fatalf("target %v, seed %d: no page within half an hour", target, seed)
				}
			}
		}
		t.Logf("target %v: paged within %d minutes", target, worst)
		if worst > 10 {
			t.Errorf("target %v: paged after %d minutes, want at most 10", target, worst)
		}
	}
}

// TestTwoOfTenPageNobody has ten requests in a night of which two fail, in one
// session or in two, and in all spacings of a few minutes.
func TestTwoOfTenPageNobody(t *testing.T) {
	for _, target := range []float64{0.75, 0.9, 0.99, 0.999, 0.9999} {
		for gap := int32(0); gap < 12; gap++ {
			c := newClient(testObjective(target))
			for i := range int32(10) {
				at := start + i*gap
				c.see(at, i >= 8)
				for late := range int32(3) {
					if name := c.pages(t, at+late*gap/3); name != "" {
						t.Fatalf("target %v, gap %d: %s pages for 2 of 10", target, gap, name)
					}
				}
			}
			for at := start + 10*gap; at < start+10*gap+400; at += 7 {
				if name := c.pages(t, at); name != "" {
					t.Fatalf("target %v, gap %d: %s pages for 2 of 10", target, gap, name)
				}
			}
		}
	}
}

// TestOneClientPagesNobody has one session fail a thousand times among the healthy
// ones of a small service, and two others once.
func TestOneClientPagesNobody(t *testing.T) {
	for _, target := range []float64{0.9, 0.99} {
		c := newClient(testObjective(target))
		for at := start; at < start+240; at++ {
			for range 2 {
				c.see(at, false)
			}
			if at > start+120 {
				for range 10 {
					c.event(1<<60, 0, -1, at, int64(at)*60_000+30_000, true)
				}
			}
			if at == start+130 || at == start+170 {
				c.see(at, true)
			}
			if name := c.pages(t, at); name != "" {
				t.Fatalf("target %v: %s pages for one client, after %d minutes", target, name, at-start-120)
			}
		}
		if got := c.All.Units.All(); got.Bad < 1000 || got.Capped > 5*3+2 {
			t.Errorf("target %v: %+v: what is bad counts, and what one client adds to the evidence is bounded", target, got)
		}
	}
}

// TestLooseTargetPages has a page with 80 % good loads at a target of 75 % fall to
// 40 %.
func TestLooseTargetPages(t *testing.T) {
	o := testObjective(0.75)
	r := rand.New(rand.NewPCG(1, 2))
	c := newClient(o)
	broke := start + 8*1440
	for at := start; at < broke+60; at++ {
		p := 0.2
		if at >= broke {
			p = 0.6
		}
		for range 20 {
			c.see(at, r.Float64() < p)
		}
		if at < broke {
			c.Advance(int64(at+1) * 60_000)
			if at%60 == 0 && c.pages(t, at) != "" {
				t.Fatal("paged before it broke")
			}
			continue
		}
		if name := c.pages(t, at); name != "" {
			t.Logf("%s pages after %d minutes", name, at+1-broke)
			return
		}
	}
	t.Error("no page within an hour")
}

// TestQuickRecovery has an outage end: no alert may burn much longer than its
// short window.
func TestQuickRecovery(t *testing.T) {
	c := newClient(testObjective(0.99))
	r := rand.New(rand.NewPCG(3, 4))
	over := start + 600
	for at := start; at < over+60; at++ {
		p := 0.005
		if at >= start+540 && at < over {
			p = 0.9
		}
		for range 30 {
			c.see(at, r.Float64() < p)
		}
		name := c.pages(t, at)
		if at == over-1 && name == "" {
			t.Error("no page after an hour of outage")
		}
		if at > over+31 && name != "" {
			t.Fatalf("%s still pages %d minutes after the outage", name, at-over)
		}
	}
}

// BenchmarkEvaluate evaluates 10,000 series of tenants, objectives and releases,
// each with traffic in every minute of the last day and failures throughout.
func BenchmarkEvaluate(b *testing.B) {
	const books, groups = 100, 99 // and one for the whole of each
	all := make([]*Book, books)
	day := start + 30*1440
	for i := range all {
		o := testObjective(0.99)
		o.Name = fmt.Sprint("o", i)
		o.GroupBy = "release"
		k := NewBook(o, 0)
		k.Cohorts = append(k.Cohorts, &Cohort{})
		for g := range groups {
			k.group(fmt.Sprint("1.", g))
		}
		one := Counts{Total: 20, Bad: 1, Capped: 1}
		for g, group := range append([]*Group{&k.All}, k.Groups...) {
			for at := day - 3*1440; at < day-1440; at += quarter {
				group.Units.Add(at, one)
			}
			group.Units.Compact(day-1440, 0)
			for at := day - 1440; at < day; at++ {
				group.Units.Add(at, one)
			}
			for n := range uint64(3) {
				group.failing(uint64(g)+n, day-1, 3)
			}
		}
		k.Now = int64(day) * 60_000
		all[i] = k
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for _, k := range all {
			if err := k.Evaluate("t", Question{At: int64(day) * 60_000}, func(*verdict.SLOState) { n++ }); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/10,000-series")
	if n != b.N*books*(groups+1) {
		b.Fatalf("%d evaluations", n)
	}
}

// BenchmarkEvaluateSlices evaluates 1,000 series of objectives in slices of a minute over
// 28 days, with units in all of them and ten minutes later in each evaluation: sums
// are kept, and made again for what was late.
func BenchmarkEvaluateSlices(b *testing.B) {
	const books, groups, window = 10, 99, 28 * 1440
	all := make([]*Book, books)
	for i := range all {
		o := testObjective(0.99)
		o.Method, o.SliceTarget, o.Slice, o.Window.Count = Timeslices, 0.95, time.Minute, 28
		o.Alerts = Defaults(o.Target, o.Window.Period(), o.Slice)
		o.GroupBy = "release"
		k := NewBook(o, 0)
		k.Cohorts = append(k.Cohorts, &Cohort{})
		for g := range groups {
			k.group(fmt.Sprint("1.", g))
		}
		for _, group := range append([]*Group{&k.All}, k.Groups...) {
			group.Units.Cut = start
			for at := start; at < start+window; at++ {
				group.Units.Add(at, Counts{Total: 20, Bad: 1, Capped: 1})
			}
		}
		all[i] = k
	}
	b.ReportAllocs()
	now, n := start+window, 0
	evaluate := func() {
		now++
		for _, k := range all {
			if err := k.Evaluate("t", Question{At: int64(now) * 60_000}, func(*verdict.SLOState) { n++ }); err != nil {
				b.Fatal(err)
			}
		}
	}
	evaluate()
	n = 0
	for b.Loop() {
		b.StopTimer()
		for _, k := range all {
			for _, group := range append([]*Group{&k.All}, k.Groups...) {
				group.Units.Add(now, Counts{Total: 20, Bad: 1, Capped: 1})
				group.Units.Add(now-10, Counts{Total: 1})
			}
		}
		b.StartTimer()
		evaluate()
	}
	b.ReportMetric(10*float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/10,000-series")
	if n != b.N*books*(groups+1) {
		b.Fatalf("%d evaluations", n)
	}
}
