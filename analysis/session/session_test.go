package session

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/tenant"
)

var key = Key{"t", "shop", "s"}

// TestAdmitOnce gives the numbers of a session in any order, each several
// times: each is fresh once, and at the end nothing is missing.
func TestAdmitOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		n := 1 + rng.IntN(maxSparse)
		var order []uint32
		for i := range uint32(n) {
			for range 1 + rng.IntN(3) {
				order = append(order, i)
			}
			if rng.IntN(4) == 0 {
				order = append(order, event.Unordered+i)
			}
		}
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		table, fresh := NewTable(), map[uint32]int{}
		var s *Session
		for i, seq := range order {
			var a Admission
			s, a = table.Admit(key, seq, int64(i))
			if a != Duplicate {
				fresh[seq]++
			}
			if (a == First) != (i == 0) {
				t.Fatalf("beacon %d: admission %d", i, a)
			}
		}
		for seq, times := range fresh {
			if times != 1 {
				t.Fatalf("number %d was new %d times", seq, times)
			}
		}
		if s.Next != uint32(n) || s.Gap() != 0 || len(s.Sparse) != 0 || s.Beacons != int64(len(fresh)) {
			t.Fatalf("of %d numbers: next %d, gap %d, sparse %d, beacons %d of %d", n, s.Next, s.Gap(), len(s.Sparse), s.Beacons, len(fresh))
		}
	}
}

func TestAdmitBounds(t *testing.T) {
	table := NewTable()
	for i := range uint32(2 * maxSparse) { // each leaves a hole before it
		table.Admit(key, 2*i+1, 0)
	}
	s := table.Enrolled(key)
	if len(s.Sparse) != maxSparse || s.Gap() != maxSparse {
		t.Errorf("sparse %d, gap %d", len(s.Sparse), s.Gap())
	}
	for i := range uint32(2 * maxHashed) {
		table.Admit(key, event.Unordered+i, 0)
	}
	if len(s.Hashed) != maxHashed {
		t.Errorf("hashed %d", len(s.Hashed))
	}
	if _, a := table.Admit(key, event.Unordered+2*maxHashed-1, 0); a != Duplicate {
		t.Error("the newest hash is not remembered")
	}
}

func TestForgetting(t *testing.T) {
	for _, life := range []int64{Idle, TTL} {
		table := NewTable()
		s, _ := table.Admit(key, 0, 1000)
		if life == TTL {
			s.Enrolled = []Enrollment{{Rollout: "r"}}
		}
		for _, c := range []struct {
			at   int64
			want Admission
		}{{1000, Duplicate}, {1000 + life, Duplicate}, {1001 + life, First}, {1002 + life, Duplicate}} {
			if _, a := table.Admit(key, 0, c.at); a != c.want {
				t.Errorf("at %d: %d, want %d", c.at, a, c.want)
			}
		}
		other := key
		other.ID = "late"
		table.Admit(other, 0, 1001+life+Idle+60_000)
		if n := table.Sweep(); n != 1 || table.Len() != 1 {
			t.Errorf("%d forgotten, %d left", n, table.Len())
		}
		if table.Sweep() != 0 {
			t.Error("swept twice within a minute")
		}
	}
}

func rows(t *testing.T, drops []event.Dropped, events ...event.One) *batch.Batch {
	t.Helper()
	id, err := tenant.Stored("t")
	if err != nil {
		t.Fatal(err)
	}
	b := batch.New(batch.Partition{Tenant: id, App: "shop", Release: "1"})
	b.Append(1, 0, &event.Beacon{App: "shop", Release: "1", Session: "s", Events: events, Drops: drops})
	return b
}

func TestFailures(t *testing.T) {
	vital := func(name string, v float64) event.One {
		return event.One{Kind: event.Vital, Name: name, Value: v, HasVal: true}
	}
	attr := func(k event.Kind, key, text string) event.One {
		return event.One{Kind: k, Name: "x", Attrs: []event.Attr{{Key: key, Text: text}}}
	}
	none := Metrics
	for _, c := range []struct {
		name string
		e    event.One
		want Metric
	}{
		{"an uncaught error", event.One{Kind: event.Error, Name: "x"}, Errors},
		{"a handled one", attr(event.Error, "handled", "true"), none},
		{"one that was not handled", attr(event.Error, "handled", "false"), Errors},
		{"a crash", event.One{Kind: event.Crash, Name: "x"}, Errors},
		{"an ANR", event.One{Kind: event.ANR, Name: "x"}, Errors},
		{"LCP at the limit", vital("LCP", GoodLCP), none},
		{"LCP above it", vital("LCP", math.Nextafter(GoodLCP, 1e9)), LCP},
		{"INP above it", vital("INP", 201), INP},
		{"CLS above it", vital("CLS", 0.11), CLS},
		{"a vital without a limit", vital("TTFB", 1e9), none},
		{"a vital without a value", event.One{Kind: event.Vital, Name: "LCP"}, none},
		{"a failed request", attr(event.Request, "failed", "true"), Requests},
		{"one that did not", attr(event.Request, "failed", "false"), none},
		{"a network failure", event.One{Kind: event.NetFail, Name: "x"}, Requests},
		{"a view", event.One{Kind: event.View, Name: "x"}, none},
	} {
		table := NewTable()
		s, _ := table.Admit(key, 0, 0)
		b := rows(t, nil, c.e, c.e) // twice, and counted once
		got := table.Fold(s, b, 0, b.Len())
		if c.want == none && len(got) > 0 || c.want != none && (len(got) != 1 || got[0] != c.want || !s.Has(c.want)) {
			t.Errorf("%s: fails %v", c.name, got)
		}
		if len(table.Fold(s, b, 0, b.Len())) > 0 {
			t.Errorf("%s: fails again", c.name)
		}
	}
}

func TestLosses(t *testing.T) {
	seen := func(name string) event.One {
		return event.One{Kind: event.Vital, Name: name, Value: 1, HasVal: true}
	}
	for _, c := range []struct {
		name  string
		drops []event.Dropped
		e     event.One
		lacks string
	}{
		{"an exposure alone", nil, event.One{Kind: event.Exposure, Name: "x"}, "no_show no_lcp no_inp no_cls"},
		{"a view", nil, event.One{Kind: event.View, Name: "x"}, "no_lcp no_inp no_cls"},
		{"an app start", nil, event.One{Kind: event.Start, Name: "x"}, "no_lcp no_inp no_cls"},
		{"a first paint", nil, seen("FCP"), "no_lcp no_inp no_cls"},
		{"LCP", nil, seen("LCP"), "no_inp no_cls"},
		{"INP", nil, seen("INP"), "no_show no_lcp no_cls"},
		{"CLS", nil, seen("CLS"), "no_show no_lcp no_inp"},
		{"a drop of the client", []event.Dropped{{Cause: "vital/sampled", Count: 1}}, seen("LCP"), "no_inp no_cls client_drop"},
		{"a page without its SDK", nil, event.One{Kind: event.Session, Name: "boot"}, "no_show no_lcp no_inp no_cls no_init"},
		{"an SDK that tells of no page before it", nil, event.One{Kind: event.Session, Name: "init"}, "no_show no_lcp no_inp no_cls"},
		{"shedding at the edge", []event.Dropped{{Cause: event.ShedCause + "vital", Count: 1}}, seen("LCP"), "no_inp no_cls"},
	} {
		table := NewTable()
		s, _ := table.Admit(key, 0, 0)
		b := rows(t, c.drops, c.e)
		table.Fold(s, b, 0, b.Len())
		got := ""
		for l := range Losses {
			if s.Lacks(l) {
				got += " " + l.String()
			}
		}
		if got != " "+c.lacks {
			t.Errorf("%s: lacks%s, want %s", c.name, got, c.lacks)
		}
		shed := table.Shed(s, b, 0, b.Len())
		if shed != (len(c.drops) > 0 && c.drops[0].Cause != "vital/sampled") || table.Shed(s, b, 0, b.Len()) {
			t.Errorf("%s: shed %v", c.name, shed)
		}
	}
	table := NewTable()
	table.Admit(key, 0, 0)
	if s, _ := table.Admit(key, 2, 0); !s.Lacks(Gap) {
		t.Error("no gap")
	}
	if s, _ := table.Admit(key, 1, 0); s.Lacks(Gap) {
		t.Error("a gap that was filled")
	}
}

func TestNames(t *testing.T) {
	for m := range Metrics {
		if got, ok := ParseMetric(m.String()); !ok || got != m {
			t.Errorf("%v is read as %v", m, got)
		}
	}
	if _, ok := ParseMetric("speed"); ok || len(Names()) != int(Metrics) || len(LossNames()) != int(Losses) || fmt.Sprint(Gap) != "seq_gap" {
		t.Error("names")
	}
}

// TestOneBodyIsOneWord: a body of a protocol without numbers is several beacons,
// which come at once. A session that said no more than that has fallen silent.
func TestOneBodyIsOneWord(t *testing.T) {
	table := NewTable()
	for i := range uint32(3) {
		table.Admit(key, event.Unordered+i, 1000)
	}
	s, _ := table.Admit(key, event.Unordered, 1000)
	if s.Beacons != 1 || s.Spoke != 0 {
		t.Errorf("three beacons of one body count as %d, the second at %d", s.Beacons, s.Spoke)
	}
	s, _ = table.Admit(key, event.Unordered+7, 2000)
	if s.Beacons != 2 || s.Spoke != 2000 {
		t.Errorf("with another body they count as %d, the second at %d, want 2 at 2000", s.Beacons, s.Spoke)
	}
}
