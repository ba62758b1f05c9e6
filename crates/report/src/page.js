(function () {
  'use strict';
  var root = document.documentElement;
  var figures = Array.from(document.querySelectorAll('figure[data-chart]'));
  var specs = new Map();
  var printing = false;
  var config = {
    responsive: true, displaylogo: false, typesetMath: false,
    modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d', 'zoomIn2d', 'zoomOut2d']
  };

  // The page's colours, from its style sheet.
  function palette() {
    var style = getComputedStyle(root);
    return function (name) {
      var value = style.getPropertyValue('--' + name).trim();
      if (name !== 'seq' && name !== 'div') return value;
      var stops = value.split(',');
      return stops.map(function (c, i) { return [i / (stops.length - 1), c.trim()]; });
    };
  }

  // Colour names are filled in under keys of colours only: never in text that came from the corpus.
  function coloured(node, key, colour) {
    if (typeof node === 'string') {
      return /color(scale)?$/.test(key) && node[0] === '@' ? colour(node.slice(1)) : node;
    }
    if (Array.isArray(node)) {
      return node.map(function (item) { return coloured(item, key, colour); });
    }
    if (node === null || typeof node !== 'object') return node;
    var out = {};
    Object.keys(node).forEach(function (k) { out[k] = coloured(node[k], k, colour); });
    return out;
  }

  function layoutOf(spec) {
    var layout = Object.assign({
      paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', height: spec.height, uirevision: 'kept',
      margin: { l: 56, r: 16, t: 20, b: 48 }, font: { family: 'system-ui, sans-serif', size: 13, color: '@ink' },
      hoverlabel: { bgcolor: '@card', bordercolor: '@grid', font: { color: '@ink' }, align: 'left' },
      modebar: { color: '@muted', activecolor: '@c1', bgcolor: 'rgba(0,0,0,0)' }
    }, spec.layout);
    ['xaxis', 'yaxis', 'xaxis2', 'yaxis2'].forEach(function (name) {
      if (!layout[name]) return;
      layout[name] = Object.assign(
        { gridcolor: '@grid', zerolinecolor: '@grid', linecolor: '@grid', tickcolor: '@grid' }, layout[name]);
    });
    return layout;
  }

  function draw(figure) {
    var plot = figure.querySelector('.plot');
    try {
      if (!specs.has(figure)) {
        specs.set(figure, JSON.parse(figure.querySelector('script[type="application/json"]').textContent));
      }
      var spec = specs.get(figure);
      var colour = palette();
      return Plotly.react(
        plot, coloured(spec.data, '', colour), coloured(layoutOf(spec), '', colour), config
      ).then(function () {
        figure.dataset.drawn = 'true';
      }).catch(function (e) { console.error('figure ' + figure.dataset.chart + ': ' + e); });
    } catch (e) {
      console.error('figure ' + figure.dataset.chart + ': ' + e);
      return Promise.resolve();
    }
  }

  // One figure at a time, so that the page can be read while the rest are drawn.
  function drawAll() {
    return figures.reduce(function (before, figure) {
      return before.then(function () {
        return new Promise(function (next) { setTimeout(function () { draw(figure).then(next); }, 0); });
      });
    }, Promise.resolve());
  }

  function isDark() {
    if (root.dataset.theme) return root.dataset.theme === 'dark';
    return matchMedia('(prefers-color-scheme: dark)').matches;
  }

  if (location.hash === '#dark' || location.hash === '#light') root.dataset.theme = location.hash.slice(1);
  document.getElementById('theme').addEventListener('click', function () {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    drawAll();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', function () {
    if (!root.dataset.theme && !printing) drawAll();
  });
  var chosen;
  addEventListener('beforeprint', function () {
    printing = true;
    chosen = root.dataset.theme;
    root.dataset.theme = 'light';
    figures.forEach(draw);
  });
  addEventListener('afterprint', function () {
    printing = false;
    if (chosen) root.dataset.theme = chosen; else delete root.dataset.theme;
    figures.forEach(draw);
  });
  drawAll();
})();
