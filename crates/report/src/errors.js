// Collects what goes wrong on the page, so that a test (or a curious reader) can see it.
(function () {
  'use strict';
  var pending = [];
  function note(message) {
    var box = document.getElementById('page-errors');
    if (!box) { pending.push(message); return; }
    pending.splice(0).concat([message]).forEach(function (m) { box.textContent += m + '\n'; });
  }
  addEventListener('error', function (e) { note('error: ' + (e.message || (e.target && e.target.tagName))); }, true);
  addEventListener('unhandledrejection', function (e) { note('rejection: ' + e.reason); });
  addEventListener('securitypolicyviolation', function (e) { note('policy: ' + e.violatedDirective + ' ' + e.blockedURI); });
  addEventListener('DOMContentLoaded', function () { pending.splice(0).forEach(note); });
  var original = console.error;
  console.error = function () {
    note('console: ' + Array.prototype.map.call(arguments, String).join(' '));
    original.apply(console, arguments);
  };
})();
