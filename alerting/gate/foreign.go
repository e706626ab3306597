package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"
)

// parseForeign reads what Kayenta's clients send: fields that are not used are left
// alone, since they send more than is of use here. Faults name the field, what stands
// there and what is wanted, none of our types.
func parseForeign(body []byte, v any) error {
	err := json.Unmarshal(body, v)
	kind, syntax := new(json.UnmarshalTypeError), new(json.SyntaxError)
	switch {
	case errors.As(err, &kind):
		field := kind.Field
		if field == "" {
			field = "body"
		}
		return fmt.Errorf("%s: a JSON %s: want %s", field, kind.Value, wanted(kind.Type))
	case errors.As(err, &syntax):
		return fmt.Errorf("body: byte %d: %w: want one JSON value", syntax.Offset, err)
	case err != nil:
		return fmt.Errorf("body: %w", err)
	}
	return nil
}

// instant is a time as Java's Instant writes it.
type instant struct{ time.Time }

// UnmarshalJSON reads a time by RFC 3339.
func (i *instant) UnmarshalJSON(b []byte) error {
	if err := i.Time.UnmarshalJSON(b); err != nil {
		return fmt.Errorf("time %.64s: want one by RFC 3339, such as \"2026-01-05T08:00:00Z\"", b)
	}
	return nil
}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64, reflect.Int, reflect.Int64:
		return "a number"
	case reflect.Slice:
		return "a list"
	}
	return "an object"
}

// ParseKayentaRequest reads the body of POST /canary/{config}.
func ParseKayentaRequest(body []byte) (r KayentaRequest, err error) {
	err = parseForeign(body, &r)
	return r, err
}
