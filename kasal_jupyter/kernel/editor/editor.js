/* What HTML widgets do not say by themselves: run once, as the `onload` of the editor's style. */
(function (root) {
  // The page may throw the editor away; nothing here keeps it.
  var editor = new WeakRef(root);

  // In command mode a notebook takes the arrow keys of a list for its own, and Enter runs the cell anew. It
  // passes over what has this attribute itself. Ctrl+S and the like are still the notebook's.
  window.addEventListener('keydown', function (event) {
    var box = editor.deref();
    if (!box || !box.contains(event.target)) return;
    event.target.toggleAttribute('data-lm-suppress-shortcuts',
      event.key === 'Enter' || !(event.ctrlKey || event.metaKey || event.altKey));
    // Between tabs one goes with the arrows.
    var step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step && event.target.getAttribute('role') === 'tab') {
      var tabs = Array.from(box.querySelectorAll('.kasal-tabs button'));
      var next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
      next.focus();
      next.click();
    }
  }, true);

  function set(element, name, value) {
    // Only what changes: each change is looked at again.
    if (element && element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  }

  function describe() {
    var box = editor.deref();
    if (!box) { watch.disconnect(); return; }
    set(box, 'role', 'group');
    set(box, 'aria-label', 'Crew editor');
    var pages = box.querySelectorAll(':scope > .kasal-page');
    box.querySelectorAll('.kasal-tabs button').forEach(function (tab, place) {
      var chosen = tab.classList.contains('mod-active'), page = pages[place];
      if (page && !page.id) page.id = 'kasal-' + Math.random().toString(36).slice(2);
      set(tab.parentElement, 'role', 'tablist');
      set(tab.parentElement, 'aria-label', 'Views of the crew');
      set(tab, 'role', 'tab');
      set(tab, 'aria-selected', chosen);
      set(tab, 'tabindex', chosen ? 0 : -1);
      if (page) {
        set(tab, 'aria-controls', page.id);
        set(page, 'role', 'tabpanel');
        set(page, 'aria-label', tab.textContent.trim());
      }
    });
    box.querySelectorAll('.kasal-state').forEach(function (line) {
      set(line, 'role', 'status');
    });
    // It is there before anything is said in it: only then is what comes read out.
    box.querySelectorAll('.kasal-said').forEach(function (line) {
      set(line, 'role', 'alert');
    });
    box.querySelectorAll('.kasal-field').forEach(function (field) {
      var control = field.querySelector('input, textarea, select');
      set(control, 'aria-invalid', field.classList.contains('kasal-bad'));
    });
    box.querySelectorAll('.kasal-more').forEach(function (fold) {
      set(fold.querySelector(':scope > button'), 'aria-expanded', fold.classList.contains('kasal-open'));
    });
  }

  var watch = new MutationObserver(describe);
  watch.observe(root, { subtree: true, childList: true, attributes: true, attributeFilter: ['class'] });
  describe();
})(this.closest('.kasal-editor'))
