package canary

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"serin.dev/serin/analysis/session"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/tenant"
)

// forgery is one forged session in so many honest ones.
type forgery struct {
	canary, fails bool
}

// besieged folds 6,000 honest sessions of 300 networks, of whose baseline 5 % fail
// and of whose canary 7.5 %, and after each eighth of them one of the forged, in
// turn. Forged failures are told before the honest ones of their epoch, so that
// they are scored first.
func besieged(t *testing.T, r Rollout, forged []forgery) *Test {
	t.Helper()
	id, err := tenant.Stored("t")
	if err != nil {
		t.Fatal(err)
	}
	test, table := NewTest("t", r, 0), session.NewTable()
	b := batch.New(batch.Partition{Tenant: id, App: "shop", Release: "x"})
	rng := rand.New(rand.NewPCG(3, 1))
	type failure struct {
		at int64
		e  session.Enrollment
	}
	var queue []failure
	n := 0
	enter := func(now int64, network string, canary, fails bool, after int64) {
		variant := "baseline"
		if canary {
			variant = "canary"
		}
		n++
		bc := event.Beacon{SDK: "t/1", App: "shop", Release: "x", Session: fmt.Sprint("s", n), Sent: now, Received: now,
			Arms: []event.Arm{{Change: "release/2", Variant: variant}}, Ctx: event.Context{Device: "mobile", Prefix: network},
			Events: []event.One{{Kind: event.Exposure, Name: "release/2", Time: now}}}
		lo := b.Len()
		b.Append(uint64(n), 0, &bc)
		s := session.Session{Key: session.Key{Tenant: "t", App: "shop", ID: bc.Session}, Entered: now, Beacons: 2}
		test.Enter(&s, b, lo)
		if fails {
			queue = append(queue, failure{now + after, s.Enrolled[0]})
		}
	}
	for i := range 6000 {
		now := int64(i) * 20
		test.Advance(now, table)
		for len(queue) > 0 && queue[0].at <= now {
			test.Fail(queue[0].e, session.Errors)
			queue = queue[1:]
		}
		canary, u := rng.Float64() < 0.2, rng.Float64()
		enter(now, fmt.Sprint("n", rng.IntN(300)), canary, u < 0.05 || canary && u < 0.075, 2000)
		if len(forged) > 0 && i%8 == 0 {
			f := forged[i/8%len(forged)]
			enter(now, "forger", f.canary, f.fails, 1000)
		}
		// Failures are told in the order of their time.
		for k := len(queue) - 1; k > 0 && queue[k].at < queue[k-1].at; k-- {
			queue[k], queue[k-1] = queue[k-1], queue[k]
		}
	}
	test.Advance(6000*20+10_000, table)
	return test
}

// TestWithoutForger: what forged sessions do to the shares of the arms is left out
// with them, so that the evidence without their network is that of the honest
// sessions. Good sessions of the canary dilute what fails there; failing ones of
// the baseline leave those at risk, so that the canary's share of them rises.
func TestWithoutForger(t *testing.T) {
	r := rollout(t, func(r *Rollout) { r.Policy.Strata = []string{} })
	honest := besieged(t, r, nil)
	for _, c := range []struct {
		name   string
		forged []forgery
	}{
		{"good canary", []forgery{{canary: true}}},
		{"good canary and failing baseline", []forgery{{canary: true}, {fails: true}, {fails: true}, {fails: true}, {fails: true}}},
		{"failing canary", []forgery{{canary: true, fails: true}}},
		{"good baseline", []forgery{{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			test := besieged(t, r, c.forged)
			if test.Senders.of("forger") == nil {
				t.Fatal("the forger is forgotten")
			}
			left := &absent{test.Failers.of("forger"), test.Senders.of("forger")}
			for _, of := range []struct {
				what string
				e    func(test *Test, drop *absent) float64
			}{
				{"harm", func(test *Test, drop *absent) float64 { return test.harmOf(session.Errors, drop) }},
				{"safety", func(test *Test, drop *absent) float64 {
					return test.safeByRatio(session.Errors, test.guardrail(session.Errors), drop)
				}},
			} {
				want, all, got := of.e(honest, nil), of.e(test, nil), of.e(test, left)
				t.Logf("ln e of %s: honest %.3f, with the forged %.3f, without them %.3f", of.what, want, all, got)
				// Those before the forger was known for one stay.
				if math.Abs(got-want) > 0.2 || math.Abs(all-want) < 0.3 {
					t.Errorf("ln e of %s: honest %.3f, with the forged %.3f, without them %.3f", of.what, want, all, got)
				}
			}
		})
	}
}

// TestHeavySendersStay: a network with much of a small canary is kept among the
// senders, though it has little of all sessions, and epochs keep no others.
func TestHeavySendersStay(t *testing.T) {
	networks := Networks{}
	networks.restore()
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 200_000 {
		canary := rng.Float64() < 0.01
		prefix := fmt.Sprint("n", rng.IntN(2000))
		if canary && i%10 == 0 {
			prefix = "forger"
		}
		networks.count(prefix, balance(canary, 0.01)).Sessions[side(canary)]++
	}
	if n := networks.of("forger"); n == nil || n.Sessions[1] < 150 {
		t.Errorf("%+v", n)
	}
	test := besieged(t, rollout(t, nil), []forgery{{canary: true}})
	for k := range test.Strata {
		for _, ep := range test.Strata[k].Open {
			if ep.Closed && ep.Entering != nil {
				t.Fatalf("epoch %d is closed and keeps all networks", ep.Start)
			}
			for _, c := range ep.Crowds {
				if c.Network != "forger" && ep.Start > 60_000 {
					t.Errorf("epoch %d keeps %q", ep.Start, c.Network)
				}
			}
		}
	}
}

// TestBalance: at a planned weight both arms weigh the same in all.
func TestBalance(t *testing.T) {
	for _, c := range []struct {
		weight           float64
		canary, baseline int64
	}{{0.5, 1, 1}, {0.01, 99, 1}, {0.1, 9, 1}, {0.9, 1, 9}, {1, 1, 1000}, {1e-6, 1000, 1}} {
		if canary, baseline := balance(true, c.weight), balance(false, c.weight); canary != c.canary || baseline != c.baseline {
			t.Errorf("weight %v: %d and %d, want %d and %d", c.weight, canary, baseline, c.canary, c.baseline)
		}
	}
}

// TestPlaces: the weights of where an effect can be are the policy's, sum to 1,
// and are the same before and after a stratum appears. Of one stratum with
// evidence E they make shared E + hidden (E+1)/2, by hand.
func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		strata []string
		shared float64
	}{{[]string{}, 0.98}, {[]string{"device"}, 0.8}} {
		test := besieged(t, rollout(t, func(r *Rollout) { r.Policy.Strata = c.strata }), []forgery{{canary: true, fails: true}})
		shared, hidden := test.places()
		if math.Abs(shared-c.shared) > 1e-15 || math.Abs(shared+hidden-1) > 1e-15 || len(test.Strata) != 1 {
			t.Errorf("strata %v: %v and %v, of %d strata", c.strata, shared, hidden, len(test.Strata))
		}
		e := test.harmIn(0, session.Errors, nil)
		want := logSum(e+math.Log(c.shared+(1-c.shared)/2), math.Log((1-c.shared)/2))
		if got := test.harmOf(session.Errors, nil); math.Abs(got-want) > 1e-9 {
			t.Errorf("strata %v: ln e %v, want %v", c.strata, got, want)
		}
	}
}
