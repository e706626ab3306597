package lab

import (
	"context"
	"fmt"
	"math/rand/v2"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// Tenant is the experiment of a change that hurts one customer among many.
type Tenant struct{ Options }

// TenantRow is what was found of one customer.
type TenantRow struct {
	Customers int     `json:"tenants"`
	Harm      string  `json:"harm"`
	Share     float64 `json:"share"` // of the canary, %
	Rollouts  int     `json:"rollouts"`

	Named float64 `json:"named_rate"` // by the verdict's blame at its end
	FDR   float64 `json:"false_discovery_rate"`
	// Called is how often the rollout was rolled back for harm.
	Called float64 `json:"called_rate"`
	// CalledSoon is how often it was by the twentieth failure of the customer's
	// canary.
	CalledSoon float64 `json:"called_within_20_rate"`
	// Failures of the customer's canary that were told until it was called, and until
	// it was named: mean and the most in any rollout; null where it never was.
	CalledAfter verdict.Bound `json:"called_after_failures_mean"`
	CalledMost  int64         `json:"called_after_failures_max"`
	NamedAfter  verdict.Bound `json:"named_after_failures_mean"`
	NamedMost   int64         `json:"named_after_failures_max"`
}

// soon is how many failures of a customer for whom everything fails may pass until
// the rollout is called.
const soon = 20

// tenantAlpha bounds the false discoveries among those named.
const tenantAlpha = 0.05

// ordeal is what one rollout did to its customers.
type ordeal struct {
	named, called           bool
	namedAfter, calledAfter int64
	falseShare              float64
}

// misery is a way to hurt one customer.
type misery struct {
	customers int
	harm      string
	share     float64
	world     world
	ratio     float64 // 0: all sessions of the customer's canary fail
	every     int     // cells from look to look
}

var miseries = []misery{
	{1000, "ratio 5", 0.5, world{cells: 20, cell: minute, sessions: 700 * 1000 / 20, rate: 0.1}, 5, 20},
	{200, "all fail", 0.1, world{cells: 720, cell: 5 * second, sessions: 2000. / 12, rate: 0.02}, 0, 1},
	{200, "all fail", 0.5, world{cells: 720, cell: 5 * second, sessions: 2000. / 12, rate: 0.02}, 0, 1},
}

// Run hurts customer 17: five times the failures, among 1,000 with some 70
// failures each by the end; and every session of its canary, among 200 with ten
// sessions a minute each.
func (e *Tenant) Run(ctx context.Context) (rows []TenantRow, err error) {
	for _, m := range miseries {
		row, err := e.row(ctx, m)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (e *Tenant) row(ctx context.Context, m misery) (TenantRow, error) {
	const hurt = 17
	w := m.world
	w.stages = []float64{m.share}
	rules := oneGuardrail(w, 0.01)
	if m.ratio > 0 {
		rules = oneGuardrail(w, tenantAlpha)
	}
	rules.Policy.Tenants = "env"
	row := TenantRow{Customers: m.customers, Harm: m.harm, Share: 100 * m.share, Rollouts: e.Rollouts}
	results := make([]ordeal, e.Rollouts)
	err := each(ctx, e.Options, fmt.Sprintf("tenant, %s at %g %%", m.harm, row.Share), func(b *bench, i int) {
		r := &results[i]
		cell := 0
		p := play{world: w, rng: b.rng, harmed: session.Errors, ratio: 1, alter: func(v *visit, rng *rand.Rand) {
			v.tenant = rng.Int32N(int32(m.customers))
			if v.tenant != hurt || !v.canary {
				return
			}
			v.failed = 0
			if m.ratio == 0 || rng.Float64() < m.ratio*w.rate {
				v.failed = 1 << session.Errors
			}
		}}
		p.run(b.engine, rules, func(t *canary.Test, now int64) bool {
			if cell++; cell%m.every != 0 {
				return true
			}
			v := ask(t, now)
			r.count(&v, suffered(t))
			return m.ratio > 0 || !r.named || !r.called
		})
	})
	row.sum(results)
	return row, err
}

// suffered returns how many failures of the hurt customer's canary were told.
func suffered(t *canary.Test) int64 {
	for k := range t.Parts {
		if t.Parts[k].Name == hurtName {
			return t.Parts[k].Failures[session.Errors][1]
		}
	}
	return 0
}

// count notes what a verdict says when the hurt customer's canary has suffered
// some failures.
func (r *ordeal) count(v *verdict.Verdict, suffered int64) {
	if v.Decision == verdict.Rollback && !r.called {
		r.called, r.calledAfter = true, suffered
	}
	others, named := 0, false
	for _, f := range v.Blame {
		switch {
		case !f.Blamed || f.Customer == "":
		case f.Customer == hurtName:
			named = true
		default:
			others++
		}
	}
	if named && !r.named {
		r.named, r.namedAfter = true, suffered
	}
	r.falseShare = 0
	if others > 0 {
		r.falseShare = float64(others) / (float64(others) + rate(named))
	}
}

// hurtName is the name of customer 17.
const hurtName = "number-17"

func (row *TenantRow) sum(results []ordeal) {
	n := float64(len(results))
	called, named := 0.0, 0.0
	for _, r := range results {
		row.FDR += r.falseShare
		if r.called {
			called++
			row.CalledAfter += verdict.Bound(r.calledAfter)
			row.CalledMost = max(row.CalledMost, r.calledAfter)
			row.CalledSoon += rate(r.calledAfter <= soon)
		}
		if r.named {
			named++
			row.NamedAfter += verdict.Bound(r.namedAfter)
			row.NamedMost = max(row.NamedMost, r.namedAfter)
		}
	}
	row.Called, row.Named = called/n, named/n
	row.FDR /= n
	row.CalledSoon /= n
	row.CalledAfter /= verdict.Bound(called)
	row.NamedAfter /= verdict.Bound(named)
}
