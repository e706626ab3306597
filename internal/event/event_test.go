package event

import "testing"

func TestKindsReadBack(t *testing.T) {
	for i, name := range Kinds() {
		if k, ok := ParseKind([]byte(name)); !ok || int(k) != i+1 || k.String() != name {
			t.Errorf("%q is read as %v, %v", name, k, ok)
		}
	}
	for _, name := range []string{"", "vitals", "Vital", "x"} {
		if k, ok := ParseKind([]byte(name)); ok {
			t.Errorf("%q is read as %v", name, k)
		}
	}
}
