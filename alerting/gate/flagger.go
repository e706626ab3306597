package gate

import (
	"fmt"
	"regexp"
	"strconv"

	"serin.dev/serin/analysis/verdict"
)

// Hook is one of Flagger's webhook types, as its API names them.
type Hook string

// The hooks that are served. Flagger takes 200 to 202 for yes and anything else,
// 204 among it, for no (flagger v1.36.1, pkg/controller/webhook.go).
const (
	ConfirmRollout         Hook = "confirm-rollout"          // may the canary begin
	ConfirmTrafficIncrease Hook = "confirm-traffic-increase" // may its weight rise
	ConfirmPromotion       Hook = "confirm-promotion"        // may it become the primary
	RollbackHook           Hook = "rollback"                 // shall it be taken back
	EventHook              Hook = "event"                    // told, never asked
)

// ParseHook reads the name of a hook.
func ParseHook(s string) (Hook, error) {
	switch h := Hook(s); h {
	case ConfirmRollout, ConfirmTrafficIncrease, ConfirmPromotion, RollbackHook, EventHook:
		return h, nil
	}
	return "", fmt.Errorf("hook: %q: want %s, %s, %s, %s or %s", s, ConfirmRollout, ConfirmTrafficIncrease, ConfirmPromotion, RollbackHook, EventHook)
}

// Flagger returns whether a hook is answered with yes.
//
// Whether a canary may begin is asked before there is any evidence: it may
// unless it is rolled back, or nothing is known of it. A canary becomes the
// primary only by the last stage's promote.
func Flagger(h Hook, s verdict.Standing) (yes bool) {
	switch h {
	case ConfirmRollout:
		yes = s.Verdict != nil && s.Decision() != verdict.Rollback
	case ConfirmTrafficIncrease:
		yes = s.Decision() == verdict.Promote
	case ConfirmPromotion:
		yes = s.Decision() == verdict.Promote && s.Last
	case RollbackHook:
		yes = s.Decision() == verdict.Rollback
	case EventHook:
		yes = true
	}
	return yes
}

// weightRE finds the weight in what Flagger says when it has moved traffic
// (pkg/controller/scheduler.go: "Advance %s.%s canary weight %v").
var weightRE = regexp.MustCompile(`^Advance \S+ canary weight (\d+)$`)

// FlaggerWeight returns the share of traffic, in (0,1], that an event of
// Flagger says the canary now has.
func FlaggerWeight(message string) (float64, bool) {
	m := weightRE.FindStringSubmatch(message)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n < 1 || n > 100 {
		return 0, false
	}
	return float64(n) / 100, true
}
