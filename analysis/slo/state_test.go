package slo

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
)

func states(t *testing.T, b *Book, q Question) map[string]verdict.SLOState {
	t.Helper()
	all := map[string]verdict.SLOState{}
	if err := b.Evaluate("t", q, func(s *verdict.SLOState) {
		one := *s // the next one overwrites it
		one.Alerts = slices.Clone(s.Alerts)
		all[s.Group] = one
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestThreeKindsOfNoData has a release whose sessions report nothing, an app that
// falls silent, and an analysis that is behind.
func TestThreeKindsOfNoData(t *testing.T) {
	o := testObjective(0.99)
	o.GroupBy = "release"
	b := NewBook(o, 0)
	w := newRows(t)
	at := start
	for ; at < start+200; at++ {
		for k := range 3 {
			bc := &event.Beacon{App: "a", Release: event.Release([]string{"1", "1", "2"}[k]), Session: fmt.Sprintf("s%d-%d", at, k), Received: int64(at) * 60_000, Sent: int64(at) * 60_000}
			if k < 2 {
				bc.Events = []event.One{{Kind: event.Request, Name: "GET", Time: bc.Received}}
			}
			if at == start+150 {
				bc.Drops = []event.Dropped{{Cause: "request/sampled", Count: 100}, {Cause: "vital/sampled", Count: 7}}
			}
			w.beacon(b, bc, true)
		}
		q := Question{At: int64(at+1) * 60_000}
		all := states(t, b, q)
		if at > start+60 && (all["2"].Data != verdict.Uninstrumented || all["1"].Data != verdict.DataOK || all[""].Data != verdict.DataOK || !strings.Contains(all["2"].Sentence, "is broken")) {
			t.Fatalf("minute %d: %v, %v, %v", at-start, all["1"].Data, all["2"].Data, all[""].Data)
		}
	}
	now := int64(at) * 60_000
	// 300 requests of the longest window were dropped, of which 400 came.
	if got := states(t, b, Question{At: now})[""].Completeness; got != 400./700 {
		t.Errorf("completeness %v, want 4 of 7", got)
	}
	if s := states(t, b, Question{At: now + 3600_000, Behind: true})[""]; s.Data != verdict.PipelineFault || s.DataThrough.UnixMilli() != now-60_000 {
		t.Errorf("behind: %v through %v", s.Data, s.DataThrough)
	}
	if s := states(t, b, Question{At: now + 2*3600_000})[""]; s.Data != verdict.NoTraffic {
		t.Errorf("silent: %v", s.Data)
	}
}

// TestTenancy has traffic that is not production count nowhere.
func TestTenancy(t *testing.T) {
	b := NewBook(testObjective(0.99), 0)
	w := newRows(t)
	w.beacon(b, &event.Beacon{App: "a", Session: "s", Tenancy: event.Test, Received: int64(start) * 60_000, Events: []event.One{{Kind: event.Request, Name: "GET", Time: int64(start) * 60_000}}}, true)
	if b.All.Units.All() != (Counts{}) || b.All.Sessions.All() != (Counts{}) {
		t.Error("test traffic counts")
	}
}

// TestBudgetPolicy walks down a budget, and an exception through its time.
func TestBudgetPolicy(t *testing.T) {
	o := testObjective(0.9)
	o.Policy = []Rule{{0, verdict.Freeze}, {0.5, verdict.Approval}}
	c := newClient(o)
	at := func(minute int32) verdict.SLOState {
		return states(t, c.Book, Question{At: int64(minute) * 60_000})[""]
	}
	if s := at(start + 1); s.Action != verdict.Allow || s.Budget.Remaining == s.Budget.Remaining {
		t.Errorf("of nothing: %v with %v left", s.Action, s.Budget.Remaining)
	}
	for i := range 100 {
		c.see(start, i < 4)
	}
	if s := at(start + 1); s.Action != verdict.Allow {
		t.Errorf("with %v left: %v", s.Budget.Remaining, s.Action)
	}
	c.see(start, true)
	c.see(start, true)
	if s := at(start + 1); s.Action != verdict.Approval {
		t.Errorf("with %v left: %v", s.Budget.Remaining, s.Action)
	}
	for range 6 {
		c.see(start, true)
	}
	if s := at(start + 1); s.Action != verdict.Freeze {
		t.Errorf("with %v left: %v", s.Budget.Remaining, s.Action)
	}
	from, until := at(start+10).At, at(start+20).At
	c.Exceptions = []verdict.SLOException{{Who: "ann", Why: "repair", Action: verdict.Approval, At: from, Until: until}}
	for minute, want := range map[int32]verdict.Action{9: verdict.Freeze, 10: verdict.Approval, 19: verdict.Approval, 20: verdict.Freeze} {
		if s := at(start + minute); s.Action != want || (s.Exception != nil) != (want == verdict.Approval) {
			t.Errorf("minute %d: %v, %+v", minute, s.Action, s.Exception)
		}
	}
}

// TestCheckpoint stores a book that has all there is to have, and wants the same
// states of what is read, now and after more of the same.
func TestCheckpoint(t *testing.T) {
	o := testObjective(0.9)
	o.GroupBy, o.Unit = "release", UnitSession
	o.Strata = []string{"platform"}
	b := NewBook(o, 5)
	w := newRows(t)
	r := rand.New(rand.NewPCG(1, 3))
	now := int64(start) * 60_000
	feed := func(b *Book, r *rand.Rand, now int64) int64 {
		for range 400 {
			now += r.Int64N(10 * 60_000)
			w.row(b, fmt.Sprint(r.IntN(3)), "flag/x="+[]string{"on", "off"}[r.IntN(2)], []string{"web", "ios"}[r.IntN(2)], r.IntN(300), now, now-r.Int64N(20*60_000), r.IntN(3) == 0)
		}
		return now
	}
	now = feed(b, r, now)
	b.Exceptions = []verdict.SLOException{{Who: "ann"}}
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(b); err != nil {
		t.Fatal(err)
	}
	var again Book
	if err := gob.NewDecoder(&buf).Decode(&again); err != nil {
		t.Fatal(err)
	}
	again.Restore()
	now1 := feed(b, rand.New(rand.NewPCG(7, 7)), now)
	now2 := feed(&again, rand.New(rand.NewPCG(7, 7)), now)
	one, two := states(t, b, Question{At: now1}), states(t, &again, Question{At: now2})
	text := func(of map[string]verdict.SLOState) string {
		data, err := json.Marshal(of)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if len(one) != 4 || text(one) != text(two) {
		t.Errorf("%s\nis not\n%s", text(one), text(two))
	}
	a, err := b.Spending("t", Question{At: now1})
	if err != nil {
		t.Fatal(err)
	}
	c, err := again.Spending("t", Question{At: now1})
	if err != nil || !reflect.DeepEqual(a, c) {
		t.Errorf("spending differs, %v", err)
	}
}

func FuzzSeries(f *testing.F) {
	good, err := Series{Cut: 30, Coarse: []Bucket{{15, Counts{3, 1, 1}}}, Fine: []Bucket{{31, Counts{4, 2, 1}}}}.GobEncode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var s Series
		if s.GobDecode(data) != nil {
			return
		}
		b, err := s.GobEncode()
		var again Series
		if err != nil || again.GobDecode(b) != nil || !reflect.DeepEqual(s, again) {
			t.Errorf("%+v became %+v, %v", s, again, err)
		}
	})
}
