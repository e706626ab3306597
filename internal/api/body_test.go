package api

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/internal/tenant"
)

// TestDecode: a fault of a body names its field, the value and what is allowed, and
// what encoding/json would have taken one way or the other is refused.
func TestDecode(t *testing.T) {
	for body, want := range map[string]string{
		``:                                       "body: empty: want JSON",
		`{"id":"r"`:                              "body: byte 9: unexpected end of JSON input: want one JSON value",
		`{"id":"r"}{}`:                           "body: byte 11: invalid character '{' after top-level value: want one JSON value",
		"{\"id\":\"\xff\"}":                      "body: bytes that are no UTF-8: want JSON in UTF-8",
		strings.Repeat(`[`, 20_000):              "exceeded max depth",
		`[]`:                                     "body: a list: want an object",
		`7`:                                      "body: 7: want an object",
		`{"canary":"2","id":"r","canary":"3"}`:   "canary: twice: want each field once",
		`{"stages":[{"weight":1,"weight":2}]}`:   "stages[0].weight: twice: want each field once",
		`{"ID":"r"}`:                             "ID: unknown field: want one of app, baseline, canary, change, id, policy, stages",
		`{"stages":[{},{"share":0.1}]}`:          "stages[1].share: unknown field: want one of deadline, ",
		`{"id":1}`:                               "id: 1: want a text",
		`{"stages":{}}`:                          "stages: an object: want a list",
		`{"stages":[{"weight":"5%"}]}`:           `stages[0].weight: "5%": want a number`,
		`{"stages":[{"weight":1e999}]}`:          "stages[0].weight: 1e999: want a number",
		`{"stages":[{"min_sessions":1.5}]}`:      "stages[0].min_sessions: 1.5: want a whole number of 64 bits",
		`{"stages":[{"deadline":"soon"}]}`:       `duration "soon": want a number with a unit`,
		`{"policy":"web"}`:                       `policy: "web": want an object`,
		`{"` + strings.Repeat("x", 900) + `":1}`: strings.Repeat("x", 64) + "...: unknown field",
	} {
		var ro canary.Rollout
		if err := decode([]byte(body), &ro); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %s", body, err, want)
		}
	}
	var ro canary.Rollout
	if err := decode([]byte(` {"id":"r","policy":null,"stages":[{"weight":0.05,"deadline":"2h","min_sessions":10}]}`+"\n"), &ro); err != nil ||
		ro.ID != "r" || len(ro.Stages) != 1 || time.Duration(ro.Stages[0].Deadline) != 2*time.Hour || ro.Stages[0].MinSessions != 10 {
		t.Errorf("%+v, %v", ro, err)
	}
}

// TestDecodeTime: what is no time is told with what is one, and none of Go's layouts.
func TestDecodeTime(t *testing.T) {
	var v struct {
		End time.Time `json:"end"`
	}
	for body, want := range map[string]string{
		`{"end":"tomorrow"}`:          `end: "tomorrow": want a time by RFC 3339, such as "2026-01-05T08:00:00Z"`,
		`{"end":"2026-01-05 08:00Z"}`: `end: "2026-01-05 08:00Z": want a time by RFC 3339, such as`,
		`{"end":""}`:                  `end: "": want a time by RFC 3339, such as`,
		`{"end":1767600000}`:          `end: 1767600000: want a time by RFC 3339, such as`,
		`{"end":{"at":1}}`:            `end: {: want a time by RFC 3339, such as`,
	} {
		if err := decode([]byte(body), &v); err == nil || err.Error() != want && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
	if err := decode([]byte(`{"end":"2026-01-05T08:00:00.5+01:00"}`), &v); err != nil || v.End.Unix() != 1767596400 {
		t.Errorf("%v, %v", v.End, err)
	}
	if err := decode([]byte(`{"end":null}`), &v); err != nil {
		t.Error(err)
	}
}

// TestNoBody: what a handler need not be told it may find out.
func TestNoBody(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/v1/rollouts/r/gate", strings.NewReader(" "))
	if err := read(httptest.NewRecorder(), r, &struct{}{}); !errors.Is(err, errEmpty) {
		t.Error(err)
	}
}

// TestTooLarge: a body past its bound is told so.
func TestTooLarge(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/v1/rollouts", strings.NewReader(`{"id":"`+strings.Repeat("x", maxBody)+`"}`))
	w := httptest.NewRecorder()
	err := read(w, r, new(canary.Rollout))
	(&API{}).explain(w, r, tenant.Access{}, err)
	if w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "body: too large: want at most 65536 bytes") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestMatches compares tags as RFC 9110 does: what a proxy that compresses has made weak
// is still the same.
func TestMatches(t *testing.T) {
	const tag = `"a1"`
	for value, want := range map[string]bool{tag: true, `W/"a1"`: true, `"b2", W/"a1"`: true, "*": true, "": false, `"a"`: false, "a1": false, `"b2"`: false} {
		if got := matches([]string{value}, tag); got != want {
			t.Errorf("%s: %v", value, got)
		}
	}
	if matches(nil, tag) || !matches([]string{`"b2"`, tag}, tag) {
		t.Error("no header, or the second of two")
	}
}
