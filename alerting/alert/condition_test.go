package alert

import (
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// TestConditions has a condition of a rollout open at once, be told under labels of its
// own, and end as soon as it holds no more, over a restart.
func TestConditions(t *testing.T) {
	at := time.Unix(1_764_000_000, 0)
	targets := []Target{{Tenant: "shop", Name: "pager", Holds: true}, {Tenant: "shop", Name: "chat"}, {Tenant: "other", Name: "pager"}}
	b := New(Policy{}, targets)
	c := verdict.Condition{Tenant: "shop", Name: verdict.RollbackIneffective, Rollout: "r1", App: "web", Release: "2.4.1", Severity: verdict.SeverityPage, Sentence: "It has no effect."}
	b.Hold([]verdict.Condition{c}, at)
	news := b.Tell(at)
	if len(news) != 2 || news[0].Stream != "rollback_ineffective/r1" || news[0].Items[0].Release != "2.4.1" {
		t.Fatalf("%+v", news)
	}
	it := &news[0].Items[0]
	if got := it.Title(); got != "[PAGE] rollback ineffective, r1: It has no effect." {
		t.Error(got)
	}
	if got := strings.Join(it.Lines(), "\n"); !strings.Contains(got, "rollout r1, release 2.4.1, app web, tenant shop") || strings.Contains(got, "unknown") {
		t.Error(got)
	}
	data, err := b.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	b = New(Policy{}, targets)
	if err := b.Restore(data); err != nil {
		t.Fatal(err)
	}
	b.Hold([]verdict.Condition{c}, at.Add(time.Minute))
	if news := b.Tell(at.Add(time.Minute)); len(news) > 0 {
		t.Errorf("told again: %+v", news)
	}
	b.Keep(func(string, string) bool { return false }, at.Add(time.Minute)) // which is about objectives
	b.Hold(nil, at.Add(2*time.Minute))
	news = b.Tell(at.Add(2 * time.Minute))
	if len(news) != 2 || news[0].Items[0].Event != Resolved || news[0].Items[0].Dedup != it.Dedup {
		t.Errorf("%+v", news)
	}
	// One that names its targets is told to those alone.
	c.Rollout, c.Targets = "r2", []string{"chat"}
	b.Hold([]verdict.Condition{c}, at.Add(3*time.Minute))
	if news = b.Tell(at.Add(3 * time.Minute)); len(news) != 1 || news[0].Target != "chat" {
		t.Errorf("%+v", news)
	}
}

// TestRemovedObjective ends what fires of an objective that there is no more.
func TestRemovedObjective(t *testing.T) {
	b := New(Policy{}, []Target{{Tenant: "shop", Name: "pager", Holds: true}})
	s := state(0, burn("page", verdict.SeverityPage, 20))
	s.Group, s.GroupBy = "2.4.1", "release"
	b.Observe(s)
	news := b.Tell(s.At)
	if len(news) != 1 || news[0].Items[0].Release != "2.4.1" {
		t.Fatalf("%+v", news)
	}
	b.Keep(func(tenant, slo string) bool { return tenant == "shop" && slo == "checkout" }, s.At.Add(time.Second))
	if news := b.Tell(s.At.Add(time.Second)); len(news) > 0 {
		t.Errorf("it is there still: %+v", news)
	}
	b.Keep(func(string, string) bool { return false }, s.At.Add(2*time.Second))
	if news := b.Tell(s.At.Add(2 * time.Second)); len(news) != 1 || news[0].Items[0].Event != Resolved {
		t.Errorf("%+v", news)
	}
}
