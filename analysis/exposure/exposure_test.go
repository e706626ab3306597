package exposure

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/verdict"
)

// state is a rollout at 5 %, an hour into a stage of four, with 10,000 sessions an
// hour, of which 3 % fail on either arm.
func state(change func(*State)) State {
	s := State{Steps: []Step{{0.05, 100, time.Minute, 4 * time.Hour}, {0.25, 500, time.Minute, 6 * time.Hour}},
		Sessions: verdict.Arms{Canary: 500, Baseline: 9500}, Users: 40, PerHour: 10_000, Given: 3 * time.Hour, Holds: true, Lag: 5 * time.Second,
		Guardrails: []Guardrail{{Name: "error_free", Sessions: verdict.Arms{Canary: 500, Baseline: 9500}, Failures: verdict.Arms{Canary: 20, Baseline: 285},
			Effect: verdict.Effect{Ratio: 1.3, Lo: 0.2, Hi: 6}, Margin: 0.5, Floor: 0.002, Required: true, Critical: true,
			NeedHarm: 5.9, NeedSafe: 3.7, LogEFloor: -2.7, Pass: 0.0015, Fail: -1.386}}}
	if change != nil {
		change(&s)
	}
	return s
}

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*State)
		share  float64 // proposed; 0: none
		stage  int     // -1: none
		why    string
	}{
		{"a rate that takes hours asks for more", nil, 0.1, 1, "10 % is the smallest share that likely decides"},
		{"more traffic needs less of it", func(s *State) { s.PerHour = 100_000 }, 0.008, 0, "The 5 % under way are more than is needed"},
		{"less time needs more", func(s *State) { s.Given = 2 * time.Hour }, 0.15, 1, "Stage 1, of 25 %, is the first planned one with as much"},
		{"more than any stage has", func(s *State) { s.PerHour = 4000 }, 0.3, -1, "No planned stage has as much"},
		{"a deadline that rolls back need not wait for the evidence of harm", func(s *State) { s.Holds = false }, 0.08, 1, "8 %"},
		{"too little time for any", func(s *State) { s.Given = time.Minute }, 0, -1, "No share decides in the 1 min given: at half of the traffic error_free takes"},
		{"what never fails and is not below its floor for long", func(s *State) {
			s.Guardrails[0].Failures = verdict.Arms{}
		}, 0.2, 1, "is the smallest"},
		{"a proof that is there", func(s *State) { s.Guardrails[0].Proven, s.Guardrails[0].Effect.Hi = true, 1.2 }, 0.001, 0, "more than is needed: 0.1 %"},
		{"after a promote the next stage counts", func(s *State) {
			s.Promoted, s.Given, s.Guardrails[0].Proven, s.Guardrails[0].Effect.Hi = true, 6*time.Hour, true, 1.2
		}, 0.05, 1, "5 %, which is under way, is the smallest"},
		{"after a promote at more than half", func(s *State) {
			s.Promoted, s.Given, s.Guardrails[0].Proven, s.Guardrails[0].Effect.Hi = true, 6*time.Hour, true, 1.2
			s.Steps[0].Weight, s.Steps[1].Weight = 0.6, 0.8
		}, 0.8, 1, "80 %"},
		{"after the last stage nothing", func(s *State) { s.Promoted, s.Steps = true, s.Steps[:1] }, 0, -1, "The last stage may be left"},
		{"decided", func(s *State) { s.Rest = "It is to be rolled back." }, 0, -1, "It is to be rolled back."},
		{"no traffic yet", func(s *State) { s.PerHour = math.NaN() }, 0, -1, "not known yet"},
		{"nothing is known beforehand of the evidence", func(s *State) { s.Guardrails[0].Untold = true }, 0.001, 0, "0.1 %"},
	} {
		m := Read(state(c.change))
		share, stage := 0.0, -1
		if m.Proposed != nil {
			share = m.Proposed.Share
		}
		if m.Stage != nil {
			stage = *m.Stage
		}
		if share != c.share || stage != c.stage || !strings.Contains(m.Why, c.why) {
			t.Errorf("%s: share %v, stage %d: %s", c.name, share, stage, m.Why)
		}
		if _, err := json.Marshal(m); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestHarm: of 30 failures at a ratio of 3 two thirds are the change's.
func TestHarm(t *testing.T) {
	m := Read(state(func(s *State) {
		s.Guardrails[0].Failures.Canary, s.Guardrails[0].Effect = 30, verdict.Effect{Ratio: 3, Lo: 2, Hi: verdict.Bound(math.Inf(1))}
		s.Values = []string{"basket"}
	}))
	h := m.Harm[0]
	if math.Abs(float64(h.Excess)-20) > 1e-9 || h.Lo != 15 || h.Hi != 30 {
		t.Errorf("%+v", h)
	}
	if !slices.Equal(m.Untold, []string{"basket"}) {
		t.Errorf("untold: %v", m.Untold)
	}
}

// TestNoRates: a rollout that is judged by values alone has an empty list of harm, not null.
func TestNoRates(t *testing.T) {
	text, err := json.Marshal(Read(state(func(s *State) { s.Guardrails, s.Values = nil, []string{"basket"} })))
	if err != nil || !strings.Contains(string(text), `"harm":[]`) {
		t.Errorf("%s %v", text, err)
	}
}

// TestFoundAsPlanned compares what a ratio costs until it is found with Wald's
// bound, by hand: at 5 % and ratio 2 a mark is the canary's with probability
// 2/21, and half of those are excess.
func TestFoundAsPlanned(t *testing.T) {
	s := state(func(s *State) {
		g := &s.Guardrails[0]
		g.Failures.Baseline, g.Sessions.Baseline, g.Effect.Hi = 499_999, 49_999_999, 2
	})
	found, all := s.Guardrails[0].harmAt(0.05, 1e9, 0)
	at := func(r float64) float64 {
		return reserve * evalue.MarksNeeded(0.05, r, math.Exp(-5.9)) * (0.05 * r / (0.95 + 0.05*r)) * (1 - 1/r)
	}
	if at2 := reserve * evalue.MarksNeeded(0.05, 2, math.Exp(-5.9)) * (0.1 / 1.05) / 2; math.Abs(at2-at(2)) > 1e-9 {
		t.Errorf("at ratio 2 %v, by hand %v", at(2), at2)
	}
	// The margin takes longest.
	if want := at(1.5); math.Abs(found-want) > 1e-6*want || math.Abs(all-1e7) > 20 {
		t.Errorf("found %v, all %v; want %v", found, all, want)
	}
	s.Guardrails[0].LogEHarm = 5.9
	if found, _ := s.Guardrails[0].harmAt(0.05, 1e9, 7); math.Abs(found-0.07) > 1e-6 {
		t.Errorf("evidence that suffices: %v excess failures of 7 sessions on the way", found)
	}
}

// TestProposalIsLeast: of random states the share that is proposed decides, no
// smaller one does, and more time or traffic never asks for more.
func TestProposalIsLeast(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	proposed := 0
	for range 600 {
		s := state(func(s *State) {
			s.PerHour = math.Exp(rng.Float64() * 14)
			s.Given = time.Duration(rng.Float64() * 24 * float64(time.Hour))
			g := &s.Guardrails[0]
			g.Failures.Baseline = rng.Int64N(900)
			g.Effect.Hi = verdict.Bound(1 / rng.Float64())
			g.LogEHarm, g.LogERatio = 8*rng.Float64()-3, 6*rng.Float64()-3
			g.Margin = 0.1 + rng.Float64()
			s.Promoted = rng.IntN(4) == 0
		})
		m := Read(s)
		least := math.Inf(1)
		if m.Proposed != nil {
			proposed++
			least = m.Proposed.Share
			if o := m.Proposed; float64(o.Decides) > o.Hours || o.Found > o.Excess*(1+1e-12)+1e-9 || math.IsNaN(float64(o.Found)) {
				t.Fatalf("%+v of %+v", o, s)
			}
		}
		for _, more := range []func(*State){func(s *State) { s.Given += time.Hour }, func(s *State) { s.PerHour *= 1.5 }} {
			other := s
			more(&other)
			if o := Read(other); m.Proposed != nil && (o.Proposed == nil || o.Proposed.Share > least) {
				t.Fatalf("%v with more time or traffic than %v", o.Proposed, least)
			}
		}
		to := s.Steps[0]
		if s.Promoted {
			to = s.Steps[1]
		}
		for _, share := range Shares {
			if to.Weight = share; share < least && (!s.Promoted || share >= s.Steps[0].Weight) {
				if o := s.outcome(to, s.Given); float64(o.Decides) <= o.Hours {
					t.Fatalf("%v decides, and %v is proposed", share, least)
				}
			}
		}
	}
	if proposed < 100 {
		t.Errorf("only %d states with a proposal", proposed)
	}
}

func TestShares(t *testing.T) {
	if !slices.IsSorted(Shares) || Shares[0] != 0.001 || Shares[len(Shares)-1] != 0.5 || len(Shares) > 32 {
		t.Errorf("%v", Shares)
	}
}
