package gate

import (
	"strings"
	"testing"
)

// TestForeignFaults: what Kayenta's clients are told names what they sent, and none of
// our types.
func TestForeignFaults(t *testing.T) {
	for body, want := range map[string]string{
		`{"thresholds":{"pass":"95"}}`: "thresholds.pass: a JSON string: want a number",
		`{"thresholds":[1]}`:           "thresholds: a JSON array: want an object",
		`[]`:                           "body: a JSON array: want an object",
		`{"thresholds"`:                "body: byte 13: unexpected end of JSON input: want one JSON value",
		`{"scopes":{"a":{"experimentScope":{"end":"tomorrow"}}}}`:       `time "tomorrow": want one by RFC 3339, such as "2026-01-05T08:00:00Z"`,
		`{"scopes":{"a":{"experimentScope":{"end":1767600000}}}}`:       `time 1767600000: want one by RFC 3339`,
		`{"thresholds":{"pass":95,"marginal":75},"more":{"than":"us"}}`: "",
	} {
		_, err := ParseKayentaRequest([]byte(body))
		if want == "" && err == nil {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || want == "" || strings.Contains(err.Error(), "Go ") || strings.Contains(err.Error(), "2006") {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
	for body, want := range map[string]string{
		`{"metricSetPairList":{}}`:                             "metricSetPairList: a JSON object: want a list",
		`{"scoreThresholds":{"pass":"high"}}`:                  "scoreThresholds.pass: a JSON string: want a number",
		`{"metricSetPairList":[{"values":{"control":["x"]}}]}`: `value "x": want a finite number or "NaN"`,
	} {
		if _, err := ParseJudgeRequest([]byte(body)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}
