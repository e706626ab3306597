package lab

import (
	"context"
	"math"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// Heavy is the experiment of senders that say the same again and again.
type Heavy struct{ Options }

// HeavyRow is what one kind of heavy sender moved, of rollouts that are the same
// but for it.
type HeavyRow struct {
	Sender   string  `json:"sender"`
	Unit     string  `json:"unit"` // that guardrails count
	Rollouts int     `json:"rollouts"`
	Moved    float64 `json:"moved_rate"`      // of rollouts that end in another decision
	LogEMost float64 `json:"log_e_moved_max"` // most by which the evidence of harm differed at a look
}

// Run has beacons sent six times on average, by all clients; and one client whose
// failing sessions make up a tenth of the canary's, under the eyes of a policy
// that counts sessions and of one that counts users.
func (h *Heavy) Run(ctx context.Context) (rows []HeavyRow, err error) {
	w, err := findWorld("plain")
	if err != nil {
		return nil, err
	}
	again := w
	again.copied = [2]float64{5. / 6, 5. / 6}
	people := w
	people.users = 4000
	sender := func(int) []visit {
		return []visit{{user: 4000, network: -1, tenant: -1, stratum: 1, canary: true, failed: 1 << session.Errors}}
	}
	for _, c := range []struct {
		sender, unit string
		engine       string
		before, with world
		extra        func(int) []visit
	}{
		{"every beacon again and again", canary.UnitSession, "beacons", w, again, nil},
		{"one client's failing sessions", canary.UnitUser, h.Engine, people, people, sender},
		{"one client's failing sessions", canary.UnitSession, h.Engine, w, w, sender},
	} {
		o := h.Options
		o.Engine = c.engine
		row := HeavyRow{Sender: c.sender, Unit: c.unit, Rollouts: h.Rollouts}
		type look struct {
			decision verdict.Decision
			logE     float64
		}
		var looks [2][][]look
		for k, w := range []world{c.before, c.with} {
			looks[k] = make([][]look, h.Rollouts)
			rules := w.rules(func(p *canary.Policy) { p.Influence = canary.InfluenceIgnore })
			// One name for both, so that the draws are the same.
			err := each(ctx, o, "heavy, "+c.sender+", "+c.unit, func(b *bench, i int) {
				p := play{world: w, rng: b.rng, ratio: 1}
				if k == 1 {
					p.extra = c.extra
				}
				p.run(b.engine, rules, func(t *canary.Test, now int64) bool {
					v := ask(t, now)
					looks[k][i] = append(looks[k][i], look{v.Decision, float64(v.LogEHarm)})
					return true
				})
			})
			if err != nil {
				return nil, err
			}
		}
		for i := range looks[0] {
			for n := range looks[0][i] {
				row.LogEMost = max(row.LogEMost, math.Abs(looks[0][i][n].logE-looks[1][i][n].logE))
			}
			last := len(looks[0][i]) - 1
			row.Moved += rate(looks[0][i][last].decision != looks[1][i][last].decision) / float64(h.Rollouts)
		}
		rows = append(rows, row)
	}
	return rows, nil
}
