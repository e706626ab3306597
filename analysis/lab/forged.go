package lab

import (
	"context"
	"fmt"
	"math/rand/v2"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// Forged is the experiment of beacons that someone made up.
type Forged struct{ Options }

// ForgedRow is what came of one attack.
type ForgedRow struct {
	Attack   string  `json:"attack"`
	Ratio    float64 `json:"ratio"`        // of the honest canary's odds of errors
	Forged   float64 `json:"forged_share"` // forged sessions to honest ones
	Rollouts int     `json:"rollouts"`
	// What the rollouts ended in: rolled back, promoted (at any look), or neither.
	Rollback  float64 `json:"rollback_rate"`
	Promotion float64 `json:"promotion_rate"`
	Hold      float64 `json:"hold_rate"`
	// Reasons says of the last holds how many had which reason.
	Reasons map[string]float64 `json:"hold_reasons"`
	// Honest* are the same without the forged sessions, of the same honest ones.
	HonestRollback  float64 `json:"honest_rollback_rate"`
	HonestPromotion float64 `json:"honest_promotion_rate"`
	// Moved is how many were promoted that are not without the forged sessions.
	Moved float64 `json:"promotion_moved_rate"`
}

// attack is a burst of sessions from one network.
type attack struct {
	name   string
	ratio  float64
	canary func(k int) bool // of the k-th forged session
	failed uint16
	share  float64 // forged to honest sessions
	spares bool    // the forged sessions of the canary do not fail
}

// Run lets one network forge sessions among those of 500 honest networks: failing
// ones of the canary, to have a good change rolled back, in amounts that leave the
// sample ratio alone and that do not; and good ones of the canary and failing ones
// of the baseline, to have a bad change promoted.
func (f *Forged) Run(ctx context.Context) (rows []ForgedRow, err error) {
	all := func(int) bool { return true }
	asPlanned := func(k int) bool { return k%5 == 0 }
	errs := uint16(1 << session.Errors)
	for _, a := range []attack{
		{"failing canary", 1, all, errs, 0.01, false},
		{"failing canary", 1, all, errs, 0.1, false},
		{"good canary", 1.5, all, 0, 0.1, true},
		{"good canary and failing baseline", 1.5, asPlanned, errs, 0.1, true},
	} {
		row := ForgedRow{Attack: a.name, Ratio: a.ratio, Forged: a.share, Rollouts: f.Rollouts, Reasons: map[string]float64{}}
		n := float64(f.Rollouts)
		forged, err := f.ends(ctx, a, true)
		if err != nil {
			return nil, err
		}
		honest, err := f.ends(ctx, a, false)
		if err != nil {
			return nil, err
		}
		for i, v := range forged {
			row.Rollback += rate(v.Decision == verdict.Rollback)
			row.Promotion += rate(v.Decision == verdict.Promote)
			row.HonestRollback += rate(honest[i].Decision == verdict.Rollback)
			row.HonestPromotion += rate(honest[i].Decision == verdict.Promote)
			row.Moved += rate(v.Decision == verdict.Promote && honest[i].Decision != verdict.Promote)
			if v.Decision == verdict.Hold {
				row.Hold++
				row.Reasons[string(v.Reasons[0].Code)]++
			}
		}
		for _, r := range []*float64{&row.Rollback, &row.Promotion, &row.Hold, &row.HonestRollback, &row.HonestPromotion, &row.Moved} {
			*r /= n
		}
		for code := range row.Reasons {
			row.Reasons[code] /= n
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// ends returns the first verdict of each rollout that is not a hold, or else the
// last one.
func (f *Forged) ends(ctx context.Context, a attack, forge bool) ([]verdict.Verdict, error) {
	w, err := findWorld("plain")
	if err != nil {
		return nil, err
	}
	rules := w.rules(func(p *canary.Policy) {
		p.Guardrails = map[string]canary.Guardrail{}
		for m := range session.Metrics {
			p.Guardrails[m.String()] = canary.Guardrail{Optional: m != session.Errors}
		}
		p.Guardrails[session.Errors.String()] = canary.Guardrail{}
	})
	last := make([]verdict.Verdict, f.Rollouts)
	// One name with and without the forged ones: the draws come from it.
	name := fmt.Sprintf("forged, %s, %g to one", a.name, a.share)
	err = each(ctx, f.Options, name, func(b *bench, i int) {
		p := play{world: w, rng: b.rng, harmed: session.Errors, ratio: a.ratio, alter: func(v *visit, rng *rand.Rand) {
			v.network = 1 + rng.Int32N(500)
		}}
		if forge {
			k, owed := 0, 0.0
			p.extra = func(int) (forged []visit) {
				for owed += a.share * w.sessions; owed >= 1; owed-- {
					v := visit{user: -1, tenant: -1, network: 0, stratum: 1, canary: a.canary(k), failed: a.failed}
					if k++; v.canary && a.spares {
						v.failed = 0
					}
					forged = append(forged, v)
				}
				return forged
			}
		}
		p.run(b.engine, rules, func(t *canary.Test, now int64) bool {
			last[i] = ask(t, now)
			return last[i].Decision == verdict.Hold
		})
	})
	return last, err
}
