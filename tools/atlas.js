(() => {
  const place = document.querySelector('.atlas');
  const rows = [...place.querySelectorAll('tbody tr')].map(row => {
    const [name, title, needs, ships, result] = [...row.cells].map(cell => cell.textContent.trim());
    return {row, text: `${name} ${title}`.toLowerCase(), needs: needs.split(', '), ships: ships.split(', '), result};
  });
  // What one has is enough for a method that needs it, or less.
  const enough = {weights: ['white-box', 'grey-box', 'black-box'], numbers: ['grey-box', 'black-box'], text: ['black-box'], nothing: ['none']};
  const results = {built: row => row.result !== 'planned', measured: row => !['planned', 'built'].includes(row.result),
    holds: row => row.result.startsWith('holds')};
  const tests = {
    have: (row, value) => row.needs.some(need => enough[value].includes(need)),
    ship: (row, value) => row.ships.includes(value),
    result: (row, value) => results[value](row),
    words: (row, value) => value.toLowerCase().split(/\s+/).every(word => row.text.includes(word)),
  };
  const kinds = [...new Set(rows.flatMap(row => row.ships))].sort().map(name => [name, name.replaceAll('-', ' ')]);
  const choices = {
    have: ['You have', [['weights', 'the teacher’s weights'], ['numbers', 'log-probs, scores or vectors'],
      ['text', 'its text alone'], ['nothing', 'no teacher']]],
    ship: ['You ship', kinds],
    result: ['Result', [['built', 'built'], ['measured', 'measured'], ['holds', 'the claim holds']]],
  };
  const form = document.createElement('form');
  form.className = 'atlas-find';
  form.setAttribute('role', 'search');
  const field = (name, title, control) => {
    const label = document.createElement('label');
    control.name = name;
    label.append(title, control);
    form.append(label);
  };
  for (const [name, [title, options]] of Object.entries(choices)) {
    const select = document.createElement('select');
    for (const [value, text] of [['', 'anything'], ...options]) select.append(new Option(text, value));
    field(name, title, select);
  }
  field('words', 'Words of name or title', Object.assign(document.createElement('input'), {type: 'search'}));
  const count = Object.assign(document.createElement('p'), {className: 'atlas-count'});
  count.setAttribute('role', 'status');
  const filter = () => {
    const asked = [...new FormData(form)].filter(([, value]) => value.trim());
    let shown = 0;
    for (const row of rows) {
      row.row.hidden = !asked.every(([name, value]) => tests[name](row, value.trim()));
      shown += !row.row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} systems`;
    return asked;
  };
  form.addEventListener('input', () => history.replaceState(null, '', '#' + new URLSearchParams(filter())));
  form.addEventListener('submit', event => event.preventDefault());
  const read = () => {
    form.reset();
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (form.elements[name]) form.elements[name].value = value;
    filter();
  };
  addEventListener('hashchange', read);
  place.before(form, count);
  read();
})();
