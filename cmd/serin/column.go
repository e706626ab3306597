package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
)

// faultsShown is how many faults of a file are told before the rest is counted.
const faultsShown = 10

// columnRow is a row of numbers of a file, and its line there.
type columnRow struct {
	values []float64
	line   int
}

// readColumns reads a CSV file of numbers, one or more to a row, all rows alike.
// A first row without any number is a header, and a byte order mark is none of the
// first value. NaN and nothing mean that there is no value. want says what is
// allowed, after "want", and allowed decides.
func readColumns(path string, want string, allowed func(v float64) bool) (rows []columnRow, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text := bufio.NewReader(f)
	if mark, _ := text.Peek(3); string(mark) == "\ufeff" {
		_, _ = text.Discard(3) // what was peeked at is there
	}
	r := csv.NewReader(text)
	r.Comment, r.TrimLeadingSpace = '#', true
	var faults []error
	count := 0
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var parse *csv.ParseError
			if errors.As(err, &parse) {
				return nil, fmt.Errorf("%s:%d: %w: want rows of as many numbers as the first", path, parse.Line, parse.Err)
			}
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		row := make([]float64, len(record))
		bad := 0
		for i, text := range record {
			v, ok := parseNumber(text)
			if ok && (math.IsNaN(v) || allowed(v)) {
				row[i] = v
				continue
			}
			bad++
			line, _ := r.FieldPos(i)
			if count++; count <= faultsShown {
				faults = append(faults, fmt.Errorf("%s:%d: %q: want %s", path, line, text, want))
			}
		}
		if bad == len(record) && len(rows) == 0 && count == bad && header(record) {
			faults, count = nil, 0
			continue
		}
		line, _ := r.FieldPos(0)
		rows = append(rows, columnRow{row, line})
	}
	if count > faultsShown {
		faults = append(faults, fmt.Errorf("%s: and %d more", path, count-faultsShown))
	}
	return rows, errors.Join(faults...)
}

// header reports whether no field of a row is a number.
func header(record []string) bool {
	for _, text := range record {
		if _, ok := parseNumber(text); ok {
			return false
		}
	}
	return true
}

func parseNumber(text string) (v float64, ok bool) {
	text = strings.TrimSpace(text)
	if text == "" {
		return math.NaN(), true
	}
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil
}

// oneColumn reads a CSV file with one number a row.
func oneColumn(path string, want string, allowed func(v float64) bool) (values []float64, err error) {
	rows, err := readColumns(path, want, allowed)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if len(row.values) != 1 {
			return nil, fmt.Errorf("%s:%d: %d columns: want 1", path, row.line, len(row.values))
		}
		values = append(values, row.values[0])
	}
	return values, nil
}
