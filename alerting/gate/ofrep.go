package gate

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"serin.dev/serin/analysis/verdict"
)

// The flags that OpenFeature's Remote Evaluation Protocol serves for a rollout
// (https://openfeature.dev/specification/appendix-c). A flag is true until its rollout is rolled back:
// it takes a change out of people's hands where redeploying cannot, and nothing but a rollback does.
const (
	flagPrefix = "serin.release."
	flagSuffix = ".enabled"
)

// Flag returns the key of a rollout's flag.
func Flag(rollout string) string { return flagPrefix + rollout + flagSuffix }

// FlagRollout returns the rollout that a flag's key is about.
func FlagRollout(key string) (string, bool) {
	rest, ok := strings.CutPrefix(key, flagPrefix)
	rest, end := strings.CutSuffix(rest, flagSuffix)
	return rest, ok && end && rest != ""
}

// Evaluation is OFREP's answer on one flag.
type Evaluation struct {
	Key      string         `json:"key"`
	Reason   string         `json:"reason,omitempty"`
	Variant  string         `json:"variant,omitempty"`
	Value    *bool          `json:"value,omitempty"`
	Metadata map[string]any `json:"metadata,omitempty"`
	// ErrorCode and ErrorDetails stand in place of a value.
	ErrorCode    string `json:"errorCode,omitempty"`
	ErrorDetails string `json:"errorDetails,omitempty"`
}

// OFREP returns the evaluation of a rollout's flag. ok is false where no value
// can be given: then the client goes by what it knows, since a value that was
// made up would bring back what was rolled back.
func OFREP(rollout string, s verdict.Standing) (e Evaluation, ok bool) {
	e.Key = Flag(rollout)
	switch {
	case s.State == verdict.StateUnknown:
		e.ErrorCode, e.ErrorDetails = "FLAG_NOT_FOUND", s.Sentence()
		return e, false
	case s.Verdict == nil:
		e.ErrorCode, e.ErrorDetails = "GENERAL", s.Sentence()
		return e, false
	}
	on := s.Decision() != verdict.Rollback
	e.Value, e.Variant, e.Reason = &on, "on", "STATIC"
	if !on {
		e.Variant, e.Reason = "off", "DISABLED"
	}
	e.Metadata = map[string]any{"decision": s.Decision().String(), "number": s.Verdict.Number}
	return e, true
}

// ETag identifies the bytes of an answer.
func ETag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}
