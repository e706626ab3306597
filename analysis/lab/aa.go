package lab

import (
	"context"
	"errors"
	"fmt"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// AA is the experiment of rollouts that should come to no harm, and of ones that
// are exactly as bad as the margin.
type AA struct {
	Options
	Alpha  float64  // bound of false rollbacks, in (0,0.5]
	Beta   float64  // bound of false promotions, in (0,0.5]
	Worlds []string // of [WorldNames]
}

// Check returns all faults together, naming each field, its value and what is
// allowed.
func (a *AA) Check() error {
	faults := []error{a.Options.Check()}
	faults = append(faults, checkLevel("alpha", a.Alpha), checkLevel("beta", a.Beta))
	if len(a.Worlds) == 0 {
		faults = append(faults, fmt.Errorf("world: none: want one of %v", WorldNames()))
	}
	for _, name := range a.Worlds {
		_, err := findWorld(name)
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

func checkLevel(name string, v float64) error {
	if v > 0 && v <= 0.5 {
		return nil
	}
	return fmt.Errorf("%s: %v: want above 0, at most 0.5", name, v)
}

// AARow is what was counted in one world.
type AARow struct {
	World    string  `json:"world"`
	Rollouts int     `json:"rollouts"`
	Alpha    float64 `json:"alpha"`
	Looks    int     `json:"looks"`         // at each rollout, one after each cell
	Sessions float64 `json:"sessions_mean"` // of a healthy rollout
	Failures float64 `json:"failures_mean"` // over all guardrails

	FalseRollbacks     int     `json:"false_rollbacks"`
	FalseRollbackRate  float64 `json:"false_rollback_rate"`
	FalseRollbackLower float64 `json:"false_rollback_lower99"` // exact interval
	FalseRollbackUpper float64 `json:"false_rollback_upper99"`
	// HarmEvidenceRate is how often the evidence of harm reached 1/alpha, whether
	// or not the sample ratio then forbade a verdict.
	HarmEvidenceRate float64 `json:"harm_evidence_rate"`
	// RatioAlarmRate is how often a verdict held for the sample ratio.
	RatioAlarmRate float64 `json:"sample_ratio_alarm_rate"`

	Beta               float64 `json:"beta"`
	Margin             float64 `json:"margin"`
	FalsePromotionRate float64 `json:"false_promotion_rate"`
	FalsePromotionLow  float64 `json:"false_promotion_lower99"`
	FalsePromotionHigh float64 `json:"false_promotion_upper99"`
}

// healthy is what became of one rollout without harm.
type healthy struct {
	rolledBack, evidence, ratio bool
	sessions, failures          int64
}

// Run simulates each world twice: healthy rollouts under the default policy, all
// of whose guardrails fail now and then; and rollouts whose canary has errors at
// exactly 1+margin times the odds, where the proof of that guardrail alone decides
// of a promotion. The second are never rolled back, so that a rollback cannot
// hide a false promotion.
func (a *AA) Run(ctx context.Context) (rows []AARow, err error) {
	for _, name := range a.Worlds {
		w, err := findWorld(name)
		if err != nil {
			return nil, err
		}
		row, err := a.world(ctx, w)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (a *AA) world(ctx context.Context, w world) (AARow, error) {
	o := a.Options
	if w.copied != [2]float64{} {
		o.Engine = "beacons" // which alone sees what is sent twice
	}
	row := AARow{World: w.name, Rollouts: a.Rollouts, Alpha: a.Alpha, Beta: a.Beta, Looks: w.cells}
	rules := w.rules(func(p *canary.Policy) { p.Alpha = a.Alpha })
	results := make([]healthy, a.Rollouts)
	err := each(ctx, o, w.name, func(b *bench, i int) {
		p := play{world: w, rng: b.rng, ratio: 1}
		h := &results[i]
		p.run(b.engine, rules, func(t *canary.Test, now int64) bool {
			v := ask(t, now)
			h.count(&v)
			return !h.rolledBack
		})
	})
	if err != nil {
		return row, err
	}
	n := float64(a.Rollouts)
	for _, h := range results {
		row.Sessions += float64(h.sessions) / n
		row.Failures += float64(h.failures) / n
		row.HarmEvidenceRate += rate(h.evidence) / n
		row.RatioAlarmRate += rate(h.ratio) / n
		if h.rolledBack {
			row.FalseRollbacks++
		}
	}
	row.FalseRollbackRate = float64(row.FalseRollbacks) / n
	row.FalseRollbackLower, row.FalseRollbackUpper = exact(row.FalseRollbacks, a.Rollouts, 0.99)

	promoted := make([]bool, a.Rollouts)
	rules = a.atMargin(w)
	row.Margin = rules.Policy.Guardrails[session.Errors.String()].Margin
	err = each(ctx, o, w.name+" at the margin", func(b *bench, i int) {
		p := play{world: w, rng: b.rng, harmed: session.Errors, ratio: 1 + row.Margin}
		p.run(b.engine, rules, func(t *canary.Test, now int64) bool {
			promoted[i] = ask(t, now).Decision == verdict.Promote
			return !promoted[i]
		})
	})
	if err != nil {
		return row, err
	}
	promotions := 0
	for _, p := range promoted {
		if p {
			promotions++
		}
	}
	row.FalsePromotionRate = float64(promotions) / n
	row.FalsePromotionLow, row.FalsePromotionHigh = exact(promotions, a.Rollouts, 0.99)
	return row, nil
}

// atMargin returns rules by which the proof of safety for errors alone decides.
func (a *AA) atMargin(w world) canary.Rollout {
	return w.rules(func(p *canary.Policy) {
		p.Alpha, p.Beta = 1e-12, a.Beta
		p.Guardrails = map[string]canary.Guardrail{}
		for m := range session.Metrics {
			p.Guardrails[m.String()] = canary.Guardrail{Optional: m != session.Errors}
		}
	})
}

func (h *healthy) count(v *verdict.Verdict) {
	h.sessions = v.Sessions.Canary + v.Sessions.Baseline
	h.failures = 0
	for _, f := range v.Findings {
		h.failures += f.Failures.Canary + f.Failures.Baseline
	}
	h.evidence = h.evidence || float64(v.LogEHarm) >= v.LogNeeded
	h.rolledBack = h.rolledBack || v.Decision == verdict.Rollback
	h.ratio = h.ratio || v.Reasons[0].Code == verdict.SampleRatio
}

func rate(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
