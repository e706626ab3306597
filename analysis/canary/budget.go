package canary

import (
	"math"
	"strconv"
	"strings"

	"serin.dev/serin/analysis/verdict"
)

// BudgetLimit bounds what a rollout may spend of an objective's error budget by
// what its canary fails more than its baseline.
type BudgetLimit struct {
	SLO   string `json:"slo"`   // name of an objective of the rollout's app
	Spend string `json:"spend"` // share of the budget of a whole window, such as 10%
}

// Share returns the share, in (0,1], of a limit that was checked.
func (b *BudgetLimit) Share() float64 {
	share, _ := parsePercent(b.Spend)
	return share
}

func parsePercent(s string) (float64, bool) {
	text, ok := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return v / 100, ok && err == nil && v > 0 && v <= 100
}

// spendLevel is the part of alpha that the rule on a rollout's own budget has: it
// adds at most so much to the false rollbacks of a rollout.
const spendLevel = 0.1

// SpendAlpha returns the level at which the excess is taken to be over the limit.
func (p *Policy) SpendAlpha() float64 { return spendLevel * p.Alpha }

// maxObjectives is how many objectives may guard a rollout.
const maxObjectives = 32

func (p *Policy) checkBudgets(c *checker, path string) {
	if len(p.SLOs) > maxObjectives {
		c.want(path+"slos", len(p.SLOs), "at most %d", maxObjectives)
	}
	seen := map[string]bool{}
	for _, name := range p.SLOs {
		if !objectiveName(name) || seen[name] {
			c.want(path+"slos", name, "names of objectives, each once")
		}
		seen[name] = true
	}
	if p.Budget == nil {
		return
	}
	if !objectiveName(p.Budget.SLO) {
		c.want(path+"budget.slo", p.Budget.SLO, "the name of an objective")
	}
	if _, ok := parsePercent(p.Budget.Spend); !ok {
		c.want(path+"budget.spend", p.Budget.Spend, "a share of the error budget above 0%%, at most 100%%, such as 10%%")
	}
}

// objectiveName reports whether a name can be one of OpenSLO's: an RFC 1123 label.
func objectiveName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// spentByOne reports whether a rollout that has overspent would not have without one
// network.
func spentByOne(s *verdict.Spend) bool {
	return s.Alone != nil && !(float64(s.Alone.Lo) > s.Limit) // unknown is not over
}

// overspent reports whether a rollout has spent more of an error budget than it may,
// beyond chance.
func overspent(s *verdict.Spend) bool {
	return s != nil && s.Refused == "" && !math.IsNaN(float64(s.Lo)) && float64(s.Lo) > s.Limit
}
